// Stored credentials: what there is and whether it can be used, never the secret. The tool itself can be asked, and signed in again
// under the same id. Deleting asks first, and offers to sign out at the provider where the tool can.

import { useState } from "preact/hooks";
import { api, asProblem, type CredentialMeta, type ProblemBody, type ProviderView, type SessionView } from "../api";
import { sessionPage } from "../pages";
import { healthWords, isOver } from "../labels";
import { Ask } from "./confirm-dialog";
import { Files } from "./files";
import { ProblemNote } from "./problem-note";
import { idempotencyKey } from "./providers";
import { When } from "./when";

interface CredentialsProps {
  credentials: CredentialMeta[];
  providers: ProviderView[];
  onChange: () => void;
}

/** Between two looks at a use that runs. */
const LOOK_EVERY_MS = 1_000;
/** Its machine may wait in the queue. */
const USE_MS_MAX = 5 * 60_000;

const USE_SLOW: ProblemBody = {
  code: "use_slow",
  sentence: "It has not ended yet.",
  remedy: "It goes on by itself; load this page again later.",
  close_code: 4504,
};

/** Waits until the session has ended; `null`: not in time. */
async function ended(session: string): Promise<SessionView | null> {
  const until = Date.now() + USE_MS_MAX;
  while (Date.now() < until) {
    const view = await api.session(session);
    if (isOver(view.status)) return view;
    await new Promise((done) => window.setTimeout(done, LOOK_EVERY_MS));
  }
  return null;
}

/** A shell found no program, or a signal ended it: not the tool's own word. */
const isForeign = (code: number) => code === 126 || code === 127 || (code > 128 && code <= 192);

/** Why a check has shown nothing; `null`: it has. */
function notAsked(view: SessionView | null): ProblemBody | null {
  if (view === null) return USE_SLOW;
  const code = view.credential_use?.exit_code ?? null;
  if (view.status === "completed" && (code === null || !isForeign(code))) return null;
  const why = view.status === "completed" ? "Its command came to no end of its own." : (view.reason?.sentence ?? "");
  return {
    code: "not_asked",
    sentence: `The tool could not be asked. ${why}`,
    remedy: "This says nothing of the credential; ask again.",
    close_code: 4504,
  };
}

/** Why a sign-out did not happen; `null`: it did. */
function notSignedOut(view: SessionView | null): ProblemBody | null {
  if (view === null) return USE_SLOW;
  const code = view.credential_use?.exit_code ?? null;
  if (view.status === "completed" && code === 0) return null;
  const why = view.status === "completed" ? `The tool's sign-out ended with ${code}.` : (view.reason?.sentence ?? "");
  return {
    code: "not_signed_out",
    sentence: `Not signed out at the provider. ${why}`,
    remedy: "The credential was kept: it may still be good there. It can be deleted here alone.",
    close_code: 4504,
  };
}

export function Credentials({ credentials, providers, onChange }: CredentialsProps) {
  const [asked, ask] = useState<CredentialMeta | null>(null);
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const nameOf = (id: string) => providers.find((provider) => provider.id === id)?.name ?? id;
  const failed = (thrown: unknown) => {
    setBusy(null);
    setProblem(asProblem(thrown));
  };
  const signOut = async (credential: CredentialMeta): Promise<ProblemBody | null> =>
    notSignedOut(await ended((await api.signOutCredential(credential.id)).session.id));
  const answered = (credential: CredentialMeta, yes: boolean, signed_out: boolean) => {
    ask(null);
    if (!yes) return;
    setBusy(credential.id);
    setProblem(null);
    (signed_out ? signOut(credential) : Promise.resolve(null))
      .then(async (why) => {
        if (why === null) await api.deleteCredential(credential.id);
        setBusy(null);
        setProblem(why);
        onChange();
      })
      .catch(failed);
  };
  const check = (credential: CredentialMeta) => {
    setBusy(credential.id);
    setProblem(null);
    api
      .checkCredential(credential.id)
      .then((started) => ended(started.session.id))
      .then((view) => {
        setBusy(null);
        setProblem(notAsked(view));
        onChange();
      }, failed);
  };
  const renew = (credential: CredentialMeta) => {
    setBusy(credential.id);
    setProblem(null);
    api
      .start(credential.provider, idempotencyKey(), credential.id)
      .then((started) => window.location.assign(sessionPage(started.session.id, started.session.provider)), failed);
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
                {credential.user_id === null ? null : <span class="quiet"> for {credential.user_id}</span>}{" "}
                <span class={`health ${credential.health}`} title={credential.health_detail}>
                  {healthWords(credential.health)}
                </span>
              </span>
              <span class="list-actions">
                {credential.policy === "store" && provider?.can_check === true ? (
                  <button
                    type="button"
                    class="small"
                    disabled={busy !== null}
                    aria-busy={busy === credential.id}
                    aria-label={`Ask ${name} whether its credential is good`}
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
                    aria-label={`Sign ${name} in again`}
                    onClick={() => renew(credential)}
                  >
                    Sign in again
                  </button>
                )}
                <button type="button" class="small" disabled={busy === credential.id} aria-label={`Delete the credential of ${name}`} onClick={() => ask(credential)}>
                  Delete
                </button>
              </span>
              <span class="list-text">
                <Files files={credential.files} />
                {credential.health === "valid" ? null : <span class="quiet"> {credential.health_detail}</span>}
                {credential.deliver_until === null ? null : <span class="quiet"> It is handed out once and then deleted.</span>}
              </span>
              <When at={credential.stored_at} />
            </li>
          );
        })}
      </ul>
      {asked === null ? null : (
        <Ask
          question={`Delete the credential of ${nameOf(asked.provider)}?`}
          detail="It cannot be brought back. Whoever uses it has to sign in again. At the provider it stays good unless the tool signs out."
          yes="Delete"
          no="Keep"
          rather={canSignOut(asked) ? "Sign out and delete" : undefined}
          onAnswer={(yes, rather) => answered(asked, yes, rather)}
        />
      )}
    </section>
  );
}
