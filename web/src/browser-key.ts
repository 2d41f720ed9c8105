// The key of this browser. The cookie of a login is accepted only together with it: browsers send a cookie to every port of a host,
// but only pages of this origin can read the key.

const NAME = "browser_key";
const BYTES = 32;

/** Used if the browser does not store anything for this page. */
let unstored_key: string | null = null;

function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(BYTES)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Returns the key; creates it at the first login. */
export function browserKey(): string {
  try {
    const stored = localStorage.getItem(NAME);
    if (stored !== null) return stored;
    const key = newKey();
    localStorage.setItem(NAME, key);
    return key;
  } catch {
    unstored_key ??= newKey();
    return unstored_key;
  }
}
