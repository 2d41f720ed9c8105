// Stored credentials: what there is and whether it can be used, never the secret. The tool itself can be asked, and signed in again
// under the same id. Deleting asks first.

import { useState } from "preact/hooks";
import { api, asProblem, type CredentialMeta, type ProblemBody, type ProviderView } from "../api";
import { sessionPage } from "../pages";
import { healthWords, isOver } from "../words";
import { Ask } from "./ask";
import { Files } from "./files";
import { ProblemNote } from "./problem-note";
import { idempotencyKey } from "./providers";
import { When } from "./when";

interface CredentialsProps {
  credentials: CredentialMeta[];
  providers: ProviderView[];
  onChange: () => void;
}

/** Between two looks at a check that runs. */
const LOOK_EVERY_MS = 1_000;
/** A check's machine may wait in the queue. */
const CHECK_MS_MAX = 5 * 60_000;

const CHECK_SLOW: ProblemBody = {
  code: "check_slow",
  sentence: "The check has not ended yet.",
  remedy: "It goes on by itself; load this page again later.",
  close_code: 4504,
};

/** Waits until the session has ended; `false`: not in time. */
async function ended(session: string): Promise<boolean> {
  const until = Date.now() + CHECK_MS_MAX;
  while (Date.now() < until) {
    if (isOver((await api.session(session)).status)) return true;
    await new Promise((done) => window.setTimeout(done, LOOK_EVERY_MS));
  }
  return false;
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
  const answered = (credential: CredentialMeta, yes: boolean) => {
    ask(null);
    if (!yes) return;
    setProblem(null);
    api.deleteCredential(credential.id).then(onChange, failed);
  };
  const check = (credential: CredentialMeta) => {
    setBusy(credential.id);
    setProblem(null);
    api
      .checkCredential(credential.id)
      .then((started) => ended(started.session.id))
      .then((in_time) => {
        setBusy(null);
        if (!in_time) setProblem(CHECK_SLOW);
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
  if (credentials.length === 0) return null;
  return (
    <section aria-labelledby="credentials">
      <h2 id="credentials">Credentials</h2>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <ul class="list">
        {credentials.map((credential) => {
          const name = nameOf(credential.provider);
          const renewable = providers.some((provider) => provider.id === credential.provider && provider.available);
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
                {credential.policy === "store" ? (
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
                {renewable ? (
                  <button
                    type="button"
                    class={credential.health === "valid" ? "small" : "small primary"}
                    disabled={busy !== null}
                    aria-label={`Sign ${name} in again`}
                    onClick={() => renew(credential)}
                  >
                    Sign in again
                  </button>
                ) : null}
                <button type="button" class="small" aria-label={`Delete the credential of ${name}`} onClick={() => ask(credential)}>
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
          detail="It cannot be brought back. Whoever uses it has to sign in again."
          yes="Delete"
          no="Keep"
          onAnswer={(yes) => answered(asked, yes)}
        />
      )}
    </section>
  );
}
