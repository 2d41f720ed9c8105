// /admin/connections: the stored credentials of all callers, without their content.

import { useState } from "preact/hooks";
import { api, toProblem, type CredentialMeta, type Problem } from "../../api";
import { ConfirmDialog } from "../../components/confirm-dialog";
import { ProblemNote } from "../../components/problem-note";
import { healthLabel } from "../../labels";
import { Age, Loading, SessionLink, Table, Time, useNow } from "../parts";
import { useData } from "../use-data";

const COLUMNS = ["Tool", "Person", "State", "Stored", "Expires", "Checked", "Session", "Id", "Actions"] as const;

export function ConnectionsPage() {
  const { value: credentials, problem, reload } = useData("credentials", () => api.credentials(), 30_000);
  const now_ms = useNow();
  const [to_remove, setToRemove] = useState<CredentialMeta | null>(null);
  const [action_problem, setActionProblem] = useState<Problem | null>(null);
  return (
    <>
      <h1>Connections</h1>
      <p class="muted">Stored credentials of all callers. Their content is encrypted and not shown here.</p>
      {action_problem === null ? null : <ProblemNote problem={action_problem} />}
      {credentials === null ? (
        <Loading problem={problem} what="connections" />
      ) : credentials.length === 0 ? (
        <p class="empty">No credential is stored.</p>
      ) : (
        <Table label="Connections" columns={COLUMNS}>
          {credentials.map((credential) => (
            <tr key={credential.id} data-credential={credential.id}>
              <td>{credential.provider}</td>
              <td>{credential.user_id ?? <span class="muted">–</span>}</td>
              <td>
                <span class={`state ${credential.health === "valid" ? "good" : "warn"}`} title={credential.health_detail}>
                  {healthLabel(credential.health)}
                </span>
              </td>
              <td>
                <Time at={credential.stored_at} now_ms={now_ms} />
              </td>
              <td>{credential.expires_at === null ? <span class="muted">–</span> : <Time at={credential.expires_at} now_ms={now_ms} />}</td>
              <td class="number">
                <Age at={credential.checked_at} now_ms={now_ms} />
              </td>
              <td>
                <SessionLink id={credential.session} />
              </td>
              <td>
                <code>{credential.id}</code>
              </td>
              <td class="actions">
                <button type="button" class="text" onClick={() => setToRemove(credential)}>
                  Remove<span class="visually-hidden"> {credential.id}</span>
                </button>
              </td>
            </tr>
          ))}
        </Table>
      )}
      {to_remove === null ? null : (
        <ConfirmDialog
          question={`Remove the credential of ${to_remove.user_id ?? to_remove.provider}?`}
          detail="Its encrypted bytes are deleted. It stays valid at the provider until it is signed out or revoked there."
          confirm="Remove"
          cancel="Keep"
          onChoice={(choice) => {
            const { id } = to_remove;
            setToRemove(null);
            if (choice !== "confirm") return;
            setActionProblem(null);
            api.deleteCredential(id).then(reload, (error: unknown) => setActionProblem(toProblem(error)));
          }}
        />
      )}
    </>
  );
}
