// A QR code, dark on light in both colour schemes, because cameras require it.

import { useEffect, useState } from "preact/hooks";
import { texts } from "../texts";
import type { QrCodeGenerateResult } from "uqr";

/** Cameras cannot reliably read longer texts from a screen. */
const CHARACTERS_MAX = 1_800;

/** The path of all dark modules, row by row; adjacent modules are joined. */
function darkPath(modules: readonly (readonly boolean[])[]): string {
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

export function fitsQrCode(text: string): boolean {
  return text.length <= CHARACTERS_MAX;
}

/** @param props.name what the code contains, for the accessible name: "the address of the sign-in page" */
export function QrCode({ text, name }: { text: string; name: string }) {
  const [code, setCode] = useState<QrCodeGenerateResult | null>(null);
  useEffect(() => {
    // Most people do not open it. Without the code, they still have the link.
    void import("uqr").then(
      ({ encode }) => setCode(encode(text, { border: 4, ecc: "L" })),
      () => undefined,
    );
  }, [text]);
  const size = code?.size ?? 1;
  return (
    <svg class="qr" role="img" aria-label={texts.copying.qr_code(name)} viewBox={`0 0 ${size} ${size}`} shape-rendering="crispEdges">
      <rect class="qr-light" width={size} height={size} />
      {code === null ? null : <path class="qr-dark" d={darkPath(code.data)} />}
    </svg>
  );
}
