// Stored credentials: what there is, never the secret. Deleting asks first.

import { useState } from "preact/hooks";
import { api, asProblem, type CredentialMeta, type ProblemBody, type ProviderView } from "../api";
import { Ask } from "./ask";
import { Files } from "./files";
import { ProblemNote } from "./problem-note";
import { When } from "./when";

interface CredentialsProps {
  credentials: CredentialMeta[];
  providers: ProviderView[];
  onChange: () => void;
}

export function Credentials({ credentials, providers, onChange }: CredentialsProps) {
  const [asked, ask] = useState<CredentialMeta | null>(null);
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const nameOf = (id: string) => providers.find((provider) => provider.id === id)?.name ?? id;
  const answered = (credential: CredentialMeta, yes: boolean) => {
    ask(null);
    if (!yes) return;
    setProblem(null);
    api.deleteCredential(credential.id).then(onChange, (thrown: unknown) => setProblem(asProblem(thrown)));
  };
  if (credentials.length === 0) return null;
  return (
    <section aria-labelledby="credentials">
      <h2 id="credentials">Credentials</h2>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <ul class="list">
        {credentials.map((credential) => (
          <li key={credential.id} data-credential={credential.id}>
            <span class="list-main">
              {nameOf(credential.provider)}
              {credential.user_id === null ? null : <span class="quiet"> for {credential.user_id}</span>}
            </span>
            <button
              type="button"
              class="small"
              aria-label={`Delete the credential of ${nameOf(credential.provider)}`}
              onClick={() => ask(credential)}
            >
              Delete
            </button>
            <span class="list-text">
              <Files files={credential.files} />
            </span>
            <When at={credential.stored_at} />
          </li>
        ))}
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
