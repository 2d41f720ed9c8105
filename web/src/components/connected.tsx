// The tools that are connected: account, state, last check, and what the person can do with each.

import { useState } from "preact/hooks";
import { api, toProblem, type CredentialMeta, type CurrentCaller, type Problem, type ProviderView, type SessionView } from "../api";
import { idempotencyKey } from "../idempotency-key";
import { locale } from "../language";
import { sessionPath } from "../pages";
import { texts } from "../texts";
import { daysUntil, formatAgo, formatDay, useNow } from "../times";
import { ConfirmDialog, type Choice } from "./confirm-dialog";
import { DateTime } from "./date-time";
import { Files } from "./files";
import { MoreMenu } from "./more-menu";
import { OidcConfirm } from "./oidc-sign-in";
import { ProblemNote } from "./problem-note";

/** More are on the operators' pages. */
const SHOWN_MAX = 50;

interface ConnectedProps {
  credentials: CredentialMeta[];
  providers: ProviderView[];
  /** The open sessions. */
  sessions: SessionView[];
  caller: CurrentCaller;
  onChange: () => void;
}

type Question = { about: "remove" | "download"; credential: CredentialMeta };

/** What the person has asked for: one at a time. */
interface Work {
  busy: string | null;
  problem: Problem | null;
  done: string | null;
  run: (credential: CredentialMeta, work: () => Promise<Problem | null>, done?: string) => void;
}

function useWork(onChange: () => void): Work {
  const [busy, setBusy] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const run: Work["run"] = (credential, work, done_text) => {
    setBusy(credential.id);
    setProblem(null);
    setDone(null);
    const finish = (problem: Problem | null) => {
      setBusy(null);
      setProblem(problem);
      if (problem === null) setDone(done_text ?? null);
      onChange();
    };
    work().then(finish, (error: unknown) => finish(toProblem(error)));
  };
  return { busy, problem, done, run };
}

const actions = () => import("../connection-actions");

export function Connected({ credentials, providers, sessions, caller, onChange }: ConnectedProps) {
  const work = useWork(onChange);
  const [question, setQuestion] = useState<Question | null>(null);
  const now_ms = useNow(15_000);
  if (credentials.length === 0) return null;
  const providerOf = ({ provider }: CredentialMeta) => providers.find((one) => one.id === provider);
  const save = (credential: CredentialMeta) =>
    work.run(credential, async () => (await actions()).download(credential, credential.provider), texts.connections.downloaded);
  const answer = ({ about, credential }: Question, choice: Choice) => {
    setQuestion(null);
    if (choice === "cancel") return;
    if (about === "download") save(credential);
    else work.run(credential, async () => (await actions()).remove(credential, choice === "alternative"));
  };
  return (
    <section aria-labelledby="connected">
      <h2 id="connected">{texts.connections.connected}</h2>
      {work.problem === null ? null : (
        <ProblemNote problem={work.problem}>{work.problem.code === "confirmation_required" ? <OidcConfirm /> : null}</ProblemNote>
      )}
      <p class="muted" role="status">
        {work.done}
      </p>
      <ul class="connections">
        {credentials.slice(0, SHOWN_MAX).map((credential) => (
          <Connection
            key={credential.id}
            credential={credential}
            provider={providerOf(credential)}
            session={sessions.find((one) => one.renews === credential.id || one.credential_use?.credential === credential.id)}
            is_operator={caller.role === "operator"}
            now_ms={now_ms}
            work={work}
            onQuestion={setQuestion}
          />
        ))}
      </ul>
      {credentials.length > SHOWN_MAX ? <p class="muted">{texts.connections.newest_shown(SHOWN_MAX)}</p> : null}
      {question === null ? null : (
        <ConfirmDialog {...dialogTexts(question, providerOf(question.credential), now_ms)} onChoice={(choice) => answer(question, choice)} />
      )}
    </section>
  );
}

function dialogTexts({ about, credential }: Question, provider: ProviderView | undefined, now_ms: number) {
  const tool = provider?.name ?? credential.provider;
  const cancel = texts.connections.keep;
  if (about === "download") {
    const kept = credential.refreshable ? [texts.connections.download_shared(tool)] : [];
    const details = [texts.connections.download_detail(tool), ...(credential.policy === "store" ? kept : [texts.connections.download_once])];
    return {
      question: texts.connections.download_question(tool),
      detail: details.join(" "),
      confirm: texts.connections.download,
      cancel: texts.not_now,
    };
  }
  const day = formatDay(credential.stored_at, now_ms, locale());
  const can_sign_out =
    credential.policy === "store" && provider?.available === true && provider.can_sign_out && credential.sign_out_scope !== "local";
  const everywhere = credential.sign_out_scope === "account" ? [texts.connections.sign_out_everywhere(tool)] : [];
  return {
    question: texts.connections.remove_question(tool, [credential.account, day].filter((part) => part !== null).join(", ")),
    detail: can_sign_out ? [texts.connections.remove_or_sign_out(tool), ...everywhere].join(" ") : texts.connections.remove_only(tool),
    confirm: can_sign_out ? texts.connections.remove_here : texts.connections.remove,
    cancel,
    alternative: can_sign_out ? texts.connections.sign_out_and_remove : undefined,
  };
}

/** The state of a connection in words. */
function stateWords({ health, expires_at, checked_at }: CredentialMeta, can_check: boolean, now_ms: number): string {
  const { connections } = texts;
  if (health === "valid") {
    const ago = formatAgo(checked_at, now_ms, locale()) ?? connections.just_now;
    return can_check ? connections.works(ago) : connections.signed_in(ago);
  }
  if (expires_at === null) return connections.signed_out;
  if (health === "needs_auth") {
    return Date.parse(expires_at) <= now_ms ? connections.expired_on(formatDay(expires_at, now_ms, locale())) : connections.signed_out;
  }
  const days = daysUntil(expires_at, now_ms);
  if (days <= 0) return connections.expires_today;
  return days === 1 ? connections.expires_tomorrow : connections.expires_on(formatDay(expires_at, now_ms, locale()));
}

interface ConnectionProps {
  credential: CredentialMeta;
  provider: ProviderView | undefined;
  /** The open session that renews or uses it. */
  session: SessionView | undefined;
  is_operator: boolean;
  now_ms: number;
  work: Work;
  onQuestion: (question: Question) => void;
}

function Connection({ credential, provider, session, is_operator, now_ms, work, onQuestion }: ConnectionProps) {
  const { id, policy, health, account, user_id } = credential;
  const tool = provider?.name ?? credential.provider;
  const is_checking = session?.credential_use?.purpose === "check";
  const can_check = provider?.can_check === true;
  const is_busy = work.busy !== null || session?.credential_use != null;
  const name = account === null ? tool : `${tool}, ${account}`;
  const check =
    policy === "store" && can_check && provider.available ? (
      <button
        type="button"
        class="small"
        data-action="check"
        disabled={is_busy}
        onClick={() => work.run(credential, async () => (await actions()).check(credential))}
      >
        {texts.connections.check}
        <span class="visually-hidden"> {name}</span>
      </button>
    ) : null;
  const again =
    provider?.available === true ? (
      <SignInAgain credential={credential} session={session} work={work} is_busy={is_busy} name={name} />
    ) : null;
  // Next to the menu is what the person needs next.
  const [first, others] = health === "valid" && check !== null ? [check, again] : [again, check];
  return (
    <li data-credential={id} data-health={health}>
      <span class="connection-name">
        {tool}
        {account === null ? null : <span class="account">{account}</span>}
        {is_operator && user_id !== null ? <span class="account">{texts.connections.for_user(user_id)}</span> : null}
      </span>
      <span class="connection-state">
        <span class={`lamp ${is_checking ? "working" : health}`} aria-hidden="true" />
        {is_checking ? texts.connections.checking : stateWords(credential, can_check, now_ms)}
        {credential.deliver_until === null ? null : <> {texts.connections.handed_out_once}</>}
      </span>
      <span class="connection-actions">
        {first}
        <MoreMenu label={`${texts.connections.more} ${name}`}>
          {others}
          {policy === "store" || policy === "deliver_once" ? (
            <button
              type="button"
              class="small"
              data-action="download"
              disabled={is_busy}
              onClick={() => onQuestion({ about: "download", credential })}
            >
              {texts.connections.download}
            </button>
          ) : null}
          <button type="button" class="small" data-action="remove" disabled={is_busy} onClick={() => onQuestion({ about: "remove", credential })}>
            {texts.connections.remove}
          </button>
        </MoreMenu>
      </span>
      {is_operator ? <OperatorDetails credential={credential} /> : null}
    </li>
  );
}

interface SignInAgainProps {
  credential: CredentialMeta;
  session: SessionView | undefined;
  work: Work;
  is_busy: boolean;
  /** The tool with its account. */
  name: string;
}

function SignInAgain({ credential, session, work, is_busy, name }: SignInAgainProps) {
  const tone = credential.health === "valid" ? "" : " primary";
  if (session !== undefined && session.renews === credential.id) {
    // One that has begun is continued.
    return (
      <a class={`button small${tone}`} href={sessionPath(session.id, { provider: session.provider })}>
        {texts.connections.continue}
        <span class="visually-hidden"> {name}</span>
      </a>
    );
  }
  const renew = () =>
    work.run(credential, async () => {
      const { session } = await api.startSession({ provider: credential.provider, idempotency_key: idempotencyKey(), renews: credential.id });
      window.location.assign(sessionPath(session.id, { provider: session.provider }));
      return null;
    });
  return (
    <button type="button" class={`small${tone}`} data-action="sign-in-again" disabled={is_busy} onClick={renew}>
      {texts.connections.sign_in_again}
      <span class="visually-hidden"> {name}</span>
    </button>
  );
}

function OperatorDetails({ credential }: { credential: CredentialMeta }) {
  return (
    <details class="connection-details">
      <summary>{texts.details}</summary>
      <Files files={credential.files} />
      <p class="muted">
        {credential.health_detail} <DateTime at={credential.checked_at} />
      </p>
    </details>
  );
}
