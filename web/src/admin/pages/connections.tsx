// /admin/connections: the stored credentials of all callers, without their content.

import { useState } from "preact/hooks";
import { api, toProblem, type CredentialMeta, type Problem } from "../../api";
import { ConfirmDialog } from "../../components/confirm-dialog";
import { clock } from "../../clock";
import { healthLabel } from "../../labels";
import { adminApi } from "../api";
import { formatCount } from "../format";
import { ActionProblem, Age, Loading, SessionLink, ShowMore, Table, Time, useNow } from "../parts";
import { hrefOf } from "../router";
import { useData } from "../use-data";

const COLUMNS = ["Tool", "Person", "Account", "State", "Stored", "Expires", "Checked", "Session", "Id", "Actions"] as const;
const SOON_MS = 7 * 86_400_000;

/** Which credentials are listed, and which of all these are. */
const FILTERS: Record<string, [label: string, includes: (credential: CredentialMeta, now_ms: number) => boolean]> = {
  "": ["All", () => true],
  expiring: ["Expire within 7 days", ({ expires_at }, now_ms) => expires_at !== null && Date.parse(expires_at) <= now_ms + SOON_MS],
  needs_auth: ["Sign-in needed", ({ health }) => health === "needs_auth"],
};

export function ConnectionsPage({ query }: { query: URLSearchParams }) {
  const [pages, setPages] = useState(1);
  const { value: list, problem, reload } = useData("credentials", () => adminApi.credentials(pages), {
    every_ms: 30_000,
    with_sessions: true,
    when: String(pages),
  });
  const chosen = query.get("show") ?? "";
  const [, includes] = FILTERS[chosen] ?? FILTERS[""] ?? ["", () => true];
  const endOf = ({ expires_at }: CredentialMeta) => (expires_at === null ? Infinity : Date.parse(expires_at));
  const shown = (list?.items ?? []).filter((credential) => includes(credential, clock.now_ms()));
  // The one that ends first needs attention first.
  if (chosen === "expiring") shown.sort((one, other) => endOf(one) - endOf(other));
  return (
    <>
      <h1>Connections</h1>
      <p class="muted">Stored credentials of all callers. Their content is encrypted and not shown here.</p>
      <div class="filters">
        <div class="segments" role="group" aria-label="Which credentials">
          {Object.entries(FILTERS).map(([name, [label]]) => (
            <a key={name} href={hrefOf("connections", { show: name })} aria-current={name === chosen ? "true" : undefined}>
              {label}
            </a>
          ))}
        </div>
      </div>
      {list === null ? (
        <Loading problem={problem} what="connections" />
      ) : (
        <>
          <p class="muted count-line" data-count={shown.length}>
            {shown.length === 1 ? "1 credential" : `${formatCount(shown.length)} credentials`}
            {list.has_more ? ", and older ones" : ""}
          </p>
          {shown.length === 0 ? <p class="empty">No such credential is stored.</p> : <Credentials credentials={shown} onRemoved={reload} />}
          <ShowMore has_more={list.has_more} onMore={() => setPages(pages + 1)} />
        </>
      )}
    </>
  );
}

function Credentials({ credentials, onRemoved }: { credentials: CredentialMeta[]; onRemoved: () => void }) {
  const now_ms = useNow();
  const [to_remove, setToRemove] = useState<CredentialMeta | null>(null);
  const [failed, setFailed] = useState<{ id: string; problem: Problem } | null>(null);
  const remove = ({ id }: CredentialMeta) => {
    setFailed(null);
    api.deleteCredential(id).then(onRemoved, (error: unknown) => setFailed({ id, problem: toProblem(error) }));
  };
  return (
    <>
      <Table label="Connections" columns={COLUMNS}>
        {credentials.map((credential) => (
          <tr key={credential.id} data-credential={credential.id}>
            <td>{credential.provider}</td>
            <td>{credential.user_id ?? <span class="muted">–</span>}</td>
            <td>{credential.account ?? <span class="muted">–</span>}</td>
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
              {failed?.id !== credential.id ? null : <ActionProblem problem={failed.problem} />}
            </td>
          </tr>
        ))}
      </Table>
      {to_remove === null ? null : (
        <ConfirmDialog
          question={`Remove the credential of ${to_remove.user_id ?? to_remove.provider}?`}
          detail="Its encrypted bytes are deleted. It stays valid at the provider until it is signed out or revoked there."
          confirm="Remove"
          cancel="Keep"
          onChoice={(choice) => {
            const credential = to_remove;
            setToRemove(null);
            if (choice === "confirm") remove(credential);
          }}
        />
      )}
    </>
  );
}
