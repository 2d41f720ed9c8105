// A QR code: an address for the phone in somebody's hand. Dark on light whatever the page's colours are, as cameras want it.

import { encode } from "uqr";

/** More does not fit into a code that a camera can read from a screen. */
const CHARACTERS_MAX = 1_800;

/** One path of all dark squares, row by row, runs joined. */
function path(modules: readonly (readonly boolean[])[]): string {
  return modules
    .flatMap((row, y) =>
      row.flatMap((dark, x) => {
        if (!dark || row[x - 1] === true) return [];
        const end = row.indexOf(false, x);
        return [`M${x} ${y}h${(end === -1 ? row.length : end) - x}v1H${x}z`];
      }),
    )
    .join("");
}

export function canBeQr(text: string): boolean {
  return text.length <= CHARACTERS_MAX;
}

export function Qr({ text, what }: { text: string; what: string }) {
  const { data, size } = encode(text, { border: 4, ecc: "L" });
  return (
    <svg class="qr" role="img" aria-label={`QR code of ${what}`} viewBox={`0 0 ${size} ${size}`} shape-rendering="crispEdges">
      <rect class="qr-light" width={size} height={size} />
      <path class="qr-dark" d={path(data)} />
    </svg>
  );
}
