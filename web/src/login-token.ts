// The single-use pass of a link: in the fragment, which browsers send to nobody; taken out of the history before use.

import { api } from "./api";

/** Takes the pass out of the address, so that it stands neither there nor in the history. */
export function takePass(): string | null {
  const pass = new URLSearchParams(window.location.hash.slice(1)).get("login_token");
  if (pass === null) return null;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return pass === "" ? null : pass;
}

/** Exchanges a pass for the cookie. Throws `Refused` when the server does not take it. */
export async function enter(pass: string): Promise<void> {
  await api.enter(pass);
}
