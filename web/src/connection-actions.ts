// What a person does with a connection; loaded with the first click. Checks and sign-outs run in a session of their own.

import { api, type CredentialMeta, type Problem, type SessionView } from "./api";
import { hasEnded } from "./labels";
import { texts } from "./texts";
import { tarOf, type TarFile } from "./tar";

const POLL_INTERVAL_MS = 1_000;
/** Includes the time in the queue for a machine. */
const USE_TIMEOUT_MS = 5 * 60_000;

const useTimeout = (): Problem => ({
  code: "use_timeout",
  sentence: "This takes longer than expected.",
  remedy: "It continues on the server. Reload this page later.",
  for_person: texts.use_takes_long,
  close_code: 4504,
});

/** Waits until the session has ended; `null` after a timeout. */
async function waitForEnd(session: string): Promise<SessionView | null> {
  const until_ms = Date.now() + USE_TIMEOUT_MS;
  while (Date.now() < until_ms) {
    const view = await api.session(session);
    if (hasEnded(view.status)) return view;
    await new Promise((done) => window.setTimeout(done, POLL_INTERVAL_MS));
  }
  return null;
}

/** Whether an exit code is of the shell (program not found) or of a signal, and not the tool's result. */
const isShellOrSignalCode = (code: number) => code === 126 || code === 127 || (code > 128 && code <= 192);

/** Lets the tool check the credential. Returns why there is no result. */
export async function check(credential: CredentialMeta): Promise<Problem | null> {
  const view = await waitForEnd((await api.checkCredential(credential.id)).session.id);
  if (view === null) return useTimeout();
  const code = view.credential_use?.exit_code ?? null;
  if (view.status === "completed" && (code === null || !isShellOrSignalCode(code))) return null;
  const cause = view.status === "completed" ? "Its command was interrupted." : (view.reason?.sentence ?? "");
  return {
    code: "check_failed",
    sentence: `The tool could not check the credential. ${cause}`,
    remedy: "The credential may still be valid. Check again.",
    for_person: texts.not_checked,
    close_code: 4504,
  };
}

/** Signs out at the provider. Returns why it did not. */
async function signOut(credential: CredentialMeta): Promise<Problem | null> {
  const view = await waitForEnd((await api.signOutCredential(credential.id)).session.id);
  if (view === null) return useTimeout();
  const code = view.credential_use?.exit_code ?? null;
  if (view.status === "completed" && code === 0) return null;
  const cause = view.status === "completed" ? `The tool's sign-out ended with ${code}.` : (view.reason?.sentence ?? "");
  return {
    code: "sign_out_failed",
    sentence: `Not signed out at the provider. ${cause}`,
    remedy: "The credential was not removed and may still be valid at the provider. You can remove it here without signing out.",
    for_person: texts.not_signed_out,
    close_code: 4504,
  };
}

/** Removes the credential here; with `and_sign_out`, only after it was signed out at the provider. Returns why it was not removed. */
export async function remove(credential: CredentialMeta, and_sign_out: boolean): Promise<Problem | null> {
  const problem = and_sign_out ? await signOut(credential) : null;
  if (problem === null) await api.deleteCredential(credential.id);
  return problem;
}

/** Saves the credential's files on this computer: one file as it is, with the tool in its name, several as a tar archive. Returns why it did
 * not. */
export async function download(credential: CredentialMeta, tool: string): Promise<Problem | null> {
  const { files } = await api.leaseCredential(credential.id);
  const [first, ...others] = files.map(({ path, mode, content }): TarFile => ({ path, mode, bytes: bytesOf(content) }));
  if (first === undefined) return null;
  if (others.length === 0) save(first.bytes, fileName(first.path, tool));
  else save(tarOf([first, ...others]), `${tool}.tar`);
  return null;
}

/** `demo-credentials.json` for the file `.config/…/credentials.json` of Demo. */
function fileName(path: string, tool: string): string {
  const name = (path.split("/").at(-1) ?? "").replace(/^\.+/, "");
  return name.startsWith(tool) ? name : `${tool}-${name}`;
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const text = window.atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

function save(bytes: Uint8Array<ArrayBuffer>, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  window.setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
