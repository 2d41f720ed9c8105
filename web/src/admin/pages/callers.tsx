// /admin/callers: who may use the API, with which scopes, and when each was last used; tokens are created, rotated and revoked here.

import { useEffect, useRef, useState } from "preact/hooks";
import { toProblem, type Problem } from "../../api";
import { ConfirmDialog } from "../../components/confirm-dialog";
import { CopyButton } from "../../components/copy-button";
import { adminApi, type ApiToken, type CreatedToken } from "../api";
import { words } from "../format";
import { ActionProblem, Age, Loading, ShowMore, Table, Time, useNow } from "../parts";
import { hrefOf } from "../router";
import { CreateToken, RotateToken } from "../token-forms";
import { useData } from "../use-data";

const COLUMNS = ["Name", "Kind", "Role", "Scopes", "Created", "Last used", "Ends", "State", "Actions"] as const;

type TokenState = "Valid" | "Revoked" | "Expired";

/** What is done to a token, and what came of it. */
interface TokenAction {
  token: ApiToken;
  kind: "revoke" | "rotate";
  problem: Problem | null;
}

export function CallersPage({ is_operator }: { is_operator: boolean }) {
  const [pages, setPages] = useState(1);
  const { value: list, problem, reload } = useData("tokens", () => adminApi.tokens(pages), { every_ms: 30_000, when: String(pages) });
  const [created, setCreated] = useState<CreatedToken | null>(null);
  const [action, setAction] = useState<TokenAction | null>(null);
  const onCreated = (token: CreatedToken) => {
    setAction(null);
    setCreated(token);
    reload();
  };
  const revoke = (token: ApiToken) => {
    setAction(null);
    adminApi.revokeToken(token.id).then(reload, (error: unknown) => setAction({ token, kind: "revoke", problem: toProblem(error) }));
  };
  return (
    <>
      <h1>Callers and tokens</h1>
      <p class="muted">API tokens and browsers of operators. A name leads to what its caller did, and who created and changed it.</p>
      {is_operator ? <CreateToken onCreated={onCreated} /> : null}
      {created === null ? null : <NewSecret created={created} onDone={() => setCreated(null)} />}
      {action?.kind !== "rotate" ? null : (
        <RotateToken key={action.token.id} token={action.token} onCreated={onCreated} onCancel={() => setAction(null)} />
      )}
      {list === null ? (
        <Loading problem={problem} what="callers" />
      ) : (
        <>
          <Callers tokens={list.items} is_operator={is_operator} action={action} onAction={setAction} />
          <ShowMore has_more={list.has_more} onMore={() => setPages(pages + 1)} />
        </>
      )}
      {action?.kind !== "revoke" || action.problem !== null ? null : (
        <ConfirmDialog
          question={`Revoke ${action.token.name}?`}
          detail="It and everything that was made with it stop working at once: links, cookies, tickets, open pages. Sessions go on."
          confirm="Revoke"
          cancel="Keep"
          onChoice={(choice) => (choice === "confirm" ? revoke(action.token) : setAction(null))}
        />
      )}
    </>
  );
}

/** The secret of a new token. It is only in this page's memory. */
function NewSecret({ created, onDone }: { created: CreatedToken; onDone: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [created]);
  return (
    <section class="panel new-secret" aria-labelledby="new-secret" data-created={created.token.id}>
      <h2 id="new-secret" ref={heading} tabIndex={-1}>
        The token {created.token.name}
      </h2>
      <p>Copy it now: it is shown once and cannot be read again.</p>
      <div class="row">
        <code data-secret>{created.secret}</code>
        <CopyButton text={created.secret} name="the token" />
        <button type="button" onClick={onDone}>
          I have it
        </button>
      </div>
    </section>
  );
}

interface CallersProps {
  tokens: ApiToken[];
  is_operator: boolean;
  action: TokenAction | null;
  onAction: (action: TokenAction) => void;
}

function Callers({ tokens, is_operator, action, onAction }: CallersProps) {
  const now_ms = useNow();
  return (
    <Table label="Callers" columns={is_operator ? COLUMNS : COLUMNS.slice(0, -1)}>
      {tokens.map((token) => (
        <tr key={token.id} data-caller={token.name} data-state={stateOf(token, now_ms)}>
          <td>
            <a href={hrefOf("audit", { caller: token.id })} title={token.id}>
              {token.name}
            </a>
          </td>
          <td>{words(token.kind)}</td>
          <td>{token.role}</td>
          <td class="scopes">{token.scopes.join(", ")}</td>
          <td>
            <Time at={token.created_at} now_ms={now_ms} />
          </td>
          <td class="number">
            {token.last_used_at === null ? <span class="muted">never</span> : <Age at={token.last_used_at} now_ms={now_ms} />}
          </td>
          <td>{token.expires_at === null ? <span class="muted">–</span> : <Time at={token.expires_at} now_ms={now_ms} />}</td>
          <td>
            <span class={`state ${stateOf(token, now_ms) === "Valid" ? "good" : "quiet"}`}>{stateOf(token, now_ms)}</span>
          </td>
          {is_operator ? (
            <td class="actions">
              {stateOf(token, now_ms) === "Valid" ? <TokenActions token={token} onAction={onAction} /> : null}
              {action?.token.id !== token.id || action.problem === null ? null : <ActionProblem problem={action.problem} />}
            </td>
          ) : null}
        </tr>
      ))}
    </Table>
  );
}

function TokenActions({ token, onAction }: { token: ApiToken; onAction: (action: TokenAction) => void }) {
  return (
    <>
      {token.kind !== "api_token" ? null : (
        <button type="button" class="text" onClick={() => onAction({ token, kind: "rotate", problem: null })}>
          Rotate<span class="visually-hidden"> {token.name}</span>
        </button>
      )}
      <button type="button" class="text" onClick={() => onAction({ token, kind: "revoke", problem: null })}>
        Revoke<span class="visually-hidden"> {token.name}</span>
      </button>
    </>
  );
}

function stateOf(token: ApiToken, now_ms: number): TokenState {
  if (token.revoked_at !== null) return "Revoked";
  return token.expires_at !== null && Date.parse(token.expires_at) <= now_ms ? "Expired" : "Valid";
}
