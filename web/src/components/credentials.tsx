// The stored credentials: metadata and health, without secrets. The user can let the tool check a credential, sign in again under the
// same id, and remove it. Removal asks for confirmation and offers to sign out at the provider if the tool supports it.

import { useState } from "preact/hooks";
import { api, toProblem, type CredentialMeta, type Problem, type ProviderView, type SessionView } from "../api";
import { texts } from "../texts";
import { hasEnded, healthLabel } from "../labels";
import { sessionPath } from "../pages";
import { ConfirmDialog } from "./confirm-dialog";
import { DateTime } from "./date-time";
import { Files } from "./files";
import { ProblemNote } from "./problem-note";
import { idempotencyKey } from "./providers";

interface CredentialsProps {
  credentials: CredentialMeta[];
  providers: ProviderView[];
  onChange: () => void;
}

const POLL_INTERVAL_MS = 1_000;
/** Includes the time in the queue for a machine. */
const USE_TIMEOUT_MS = 5 * 60_000;

const USE_TIMEOUT: Problem = {
  code: "use_timeout",
  sentence: "This takes longer than expected.",
  remedy: "It continues on the server. Reload this page later.",
  get for_person() {
    return texts.use_takes_long;
  },
  close_code: 4504,
};

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

/** Why a check has no result; `null` if it has one. */
function checkProblem(view: SessionView | null): Problem | null {
  if (view === null) return USE_TIMEOUT;
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

/** Why a sign-out failed; `null` if it succeeded. */
function signOutProblem(view: SessionView | null): Problem | null {
  if (view === null) return USE_TIMEOUT;
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

export function Credentials({ credentials, providers, onChange }: CredentialsProps) {
  const [to_remove, setToRemove] = useState<CredentialMeta | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const nameOf = (id: string) => providers.find((provider) => provider.id === id)?.name ?? id;
  const onError = (error: unknown) => {
    setBusy(null);
    setProblem(toProblem(error));
  };
  const signOut = async (credential: CredentialMeta): Promise<Problem | null> =>
    signOutProblem(await waitForEnd((await api.signOutCredential(credential.id)).session.id));
  const remove = (credential: CredentialMeta, sign_out: boolean) => {
    setBusy(credential.id);
    setProblem(null);
    (sign_out ? signOut(credential) : Promise.resolve(null))
      .then(async (sign_out_problem) => {
        if (sign_out_problem === null) await api.deleteCredential(credential.id);
        setBusy(null);
        setProblem(sign_out_problem);
        onChange();
      })
      .catch(onError);
  };
  const check = (credential: CredentialMeta) => {
    setBusy(credential.id);
    setProblem(null);
    api
      .checkCredential(credential.id)
      .then((started) => waitForEnd(started.session.id))
      .then((view) => {
        setBusy(null);
        setProblem(checkProblem(view));
        onChange();
      }, onError);
  };
  const renew = (credential: CredentialMeta) => {
    setBusy(credential.id);
    setProblem(null);
    api
      .startSession({ provider: credential.provider, idempotency_key: idempotencyKey(), renews: credential.id })
      .then(({ session }) => window.location.assign(sessionPath(session.id, { provider: session.provider })), onError);
  };
  const canSignOut = (credential: CredentialMeta) =>
    credential.policy === "store" &&
    providers.some((provider) => provider.id === credential.provider && provider.available && provider.can_sign_out);
  if (credentials.length === 0) return null;
  return (
    <section aria-labelledby="credentials">
      <h2 id="credentials">Credentials</h2>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <ul class="list">
        {credentials.map((credential) => {
          const name = nameOf(credential.provider);
          const provider = providers.find((one) => one.id === credential.provider && one.available);
          return (
            <li key={credential.id} data-credential={credential.id} data-health={credential.health}>
              <span class="list-main">
                {name}
                {credential.user_id === null ? null : <span class="muted"> for {credential.user_id}</span>}{" "}
                <span class={`health ${credential.health}`} title={credential.health_detail}>
                  {healthLabel(credential.health)}
                </span>
              </span>
              <span class="list-actions">
                {credential.policy === "store" && provider?.can_check === true ? (
                  <button
                    type="button"
                    class="small"
                    disabled={busy !== null}
                    aria-busy={busy === credential.id}
                    aria-label={`${busy === credential.id ? "Checking…" : "Check"} the credential of ${name}`}
                    onClick={() => check(credential)}
                  >
                    {busy === credential.id ? "Checking…" : "Check"}
                  </button>
                ) : null}
                {provider === undefined ? null : (
                  <button
                    type="button"
                    class={credential.health === "valid" ? "small" : "small primary"}
                    disabled={busy !== null}
                    aria-label={`Sign in again to ${name}`}
                    onClick={() => renew(credential)}
                  >
                    Sign in again
                  </button>
                )}
                <button
                  type="button"
                  class="small"
                  disabled={busy === credential.id}
                  aria-label={`Remove the credential of ${name}`}
                  onClick={() => setToRemove(credential)}
                >
                  Remove
                </button>
              </span>
              <span class="list-text">
                <Files files={credential.files} />
                {credential.health === "valid" ? null : <span class="muted"> {credential.health_detail}</span>}
                {credential.deliver_until === null ? null : <span class="muted"> It is delivered once and then deleted.</span>}
              </span>
              <DateTime at={credential.stored_at} />
            </li>
          );
        })}
      </ul>
      {to_remove === null ? null : (
        <ConfirmDialog
          question={`Remove the credential of ${nameOf(to_remove.provider)}?`}
          detail="This cannot be undone: you will have to sign in again. It stays valid at the provider unless you also sign out there."
          confirm="Remove"
          cancel="Keep"
          alternative={canSignOut(to_remove) ? "Sign out and remove" : undefined}
          onChoice={(choice) => {
            setToRemove(null);
            if (choice !== "cancel") remove(to_remove, choice === "alternative");
          }}
        />
      )}
    </section>
  );
}
