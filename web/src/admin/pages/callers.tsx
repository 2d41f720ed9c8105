// /admin/callers: who may use the API, with which scopes, and when each was last used.

import { useState } from "preact/hooks";
import { toProblem, type Problem } from "../../api";
import { ConfirmDialog } from "../../components/confirm-dialog";
import { ProblemNote } from "../../components/problem-note";
import { adminApi, type ApiToken } from "../api";
import { words } from "../format";
import { Age, Loading, Table, Time, useNow } from "../parts";
import { hrefOf } from "../router";
import { useData } from "../use-data";

const COLUMNS = ["Name", "Kind", "Role", "Scopes", "Created", "Last used", "State", "Actions"] as const;

export function CallersPage() {
  const { value: tokens, problem, reload } = useData("tokens", () => adminApi.tokens(), 30_000);
  const now_ms = useNow();
  const [to_revoke, setToRevoke] = useState<ApiToken | null>(null);
  const [action_problem, setActionProblem] = useState<Problem | null>(null);
  return (
    <>
      <h1>Callers and tokens</h1>
      <p class="muted">
        API tokens and browsers of operators. <code>anteroom token create NAME</code> creates a token.
      </p>
      {action_problem === null ? null : <ProblemNote problem={action_problem} />}
      {tokens === null ? (
        <Loading problem={problem} what="callers" />
      ) : (
        <Table label="Callers" columns={COLUMNS}>
          {tokens.map((token) => {
            const state = stateOf(token, now_ms);
            return (
              <tr key={token.id} data-caller={token.name} data-state={state}>
                <td>
                  <a href={hrefOf("audit", { actor: token.id })} title={token.id}>
                    {token.name}
                  </a>
                </td>
                <td>{words(token.kind)}</td>
                <td>{token.role}</td>
                <td>{token.scopes.join(", ")}</td>
                <td>
                  <Time at={token.created_at} now_ms={now_ms} />
                </td>
                <td class="number">
                  {token.last_used_at === null ? <span class="muted">never</span> : <Age at={token.last_used_at} now_ms={now_ms} />}
                </td>
                <td>
                  <span class={`state ${state === "Valid" ? "good" : "quiet"}`}>{state}</span>
                </td>
                <td class="actions">
                  {state === "Valid" ? (
                    <button type="button" class="text" onClick={() => setToRevoke(token)}>
                      Revoke<span class="visually-hidden"> {token.name}</span>
                    </button>
                  ) : null}
                </td>
              </tr>
            );
          })}
        </Table>
      )}
      {to_revoke === null ? null : (
        <ConfirmDialog
          question={`Revoke ${to_revoke.name}?`}
          detail="It and everything that was made with it stop working at once: links, cookies, tickets, open pages. Sessions go on."
          confirm="Revoke"
          cancel="Keep"
          onChoice={(choice) => {
            const { id } = to_revoke;
            setToRevoke(null);
            if (choice !== "confirm") return;
            setActionProblem(null);
            adminApi.revokeToken(id).then(reload, (error: unknown) => setActionProblem(toProblem(error)));
          }}
        />
      )}
    </>
  );
}

function stateOf(token: ApiToken, now_ms: number): "Valid" | "Revoked" | "Expired" {
  if (token.revoked_at !== null) return "Revoked";
  return token.expires_at !== null && Date.parse(token.expires_at) <= now_ms ? "Expired" : "Valid";
}
