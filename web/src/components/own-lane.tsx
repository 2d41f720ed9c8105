// The tab "Your browser": the numbered steps of a sign-in in the person's own browser, what happens without the person, and what to do
// if it does not go as the steps describe.

import { useId, useState } from "preact/hooks";
import { api, toProblem, type Problem, type SessionView, type TimelineEntry } from "../api";
import { texts } from "../texts";
import { FailureActions, StartingTool } from "./failure-actions";
import { IfRefused } from "./if-refused";
import { AnswerForm, PromptForm } from "./paste-form";
import { ProblemNote } from "./problem-note";
import { safeAddress, ToolFailure, UnexpectedAddress } from "./sign-in-parts";
import { isLaterPrompt, kindOf, SignInSteps, type SignInKind } from "./sign-in-steps";

interface OwnLaneProps {
  session: SessionView;
  timeline: readonly TimelineEntry[];
  /** Whether the server does not answer: what needs it is off. */
  is_lost: boolean;
  /** Opens the tab of the remote browser; `null`: the method has none. */
  openDesktop: (() => void) | null;
  /** Opens the tab of the terminal; `null`: the method has none. */
  openTerminal: (() => void) | null;
}

export function OwnLane(props: OwnLaneProps) {
  const { session, is_lost } = props;
  const { phase, situation } = session.for_person;
  const kind = kindOf(session);
  const has_failed = phase === "needs_attention" || phase === "failed";
  const is_your_turn = phase === "your_turn";
  return (
    <section class="next-action own-lane" aria-labelledby="next-action" data-situation={situation} data-kind={kind}>
      <h2 id="next-action" class="visually-hidden">
        {texts.next_action_title}
      </h2>
      <UnexpectedAddress session={session} />
      {is_your_turn ? <ToolFailure session={session} open /> : null}
      <div class={`lane-body ${kind}`}>
        {situation === "setting_needed" || (is_your_turn && isLaterPrompt(session, props.timeline)) ? (
          <OneQuestion session={session} is_lost={is_lost} />
        ) : (
          <SignInSteps
            session={session}
            kind={kind}
            is_lost={is_lost}
            failure={has_failed ? <Failure session={session} is_lost={is_lost} /> : null}
            openTerminal={props.openTerminal}
          />
        )}
        <div class="waiting">
          <Waiting session={session} />
          <IfRefused session={session} is_lost={is_lost} openOwn={null} />
          {is_your_turn ? <SomethingElse {...props} kind={kind} /> : null}
        </div>
      </div>
    </section>
  );
}

/** What the tool asks after the sign-in itself, e.g. an entry without which it refuses the account. */
function OneQuestion({ session, is_lost }: { session: SessionView; is_lost: boolean }) {
  const { prompt } = session.sign_in;
  return (
    <fieldset class="setting" disabled={is_lost}>
      {session.for_person.situation === "setting_needed" ? <p class="for-person">{session.for_person.sentence}</p> : null}
      {prompt === null ? null : <PromptForm session={session} prompt={prompt} />}
      <FailureActions session={session} />
    </fieldset>
  );
}

function Failure({ session, is_lost }: { session: SessionView; is_lost: boolean }) {
  return (
    <fieldset class="failure" disabled={is_lost}>
      <p class="for-person">{session.for_person.sentence}</p>
      <FailureActions session={session} />
      <ToolFailure session={session} open={false} />
    </fieldset>
  );
}

/** What happens without the person. The status line announces it. */
function Waiting({ session }: { session: SessionView }) {
  const { phase, situation, sentence } = session.for_person;
  if (situation === "tool_starting") return <StartingTool session={session} />;
  if (phase !== "your_turn" && phase !== "working") return null;
  const text = phase === "your_turn" ? texts.waiting_for_you : situation === "saving" ? texts.checking_sign_in : null;
  return (
    <p class="muted waiting-line">
      <span class="spinner" aria-hidden="true" />
      {text ?? <span class="for-person">{sentence}</span>}
    </p>
  );
}

/** For a sign-in that does not go as the steps describe: another answer to the tool, or the remote browser. */
function SomethingElse({ session, is_lost, openDesktop, kind }: OwnLaneProps & { kind: SignInKind }) {
  const has_form = kind === "device_code";
  const url = safeAddress(session.sign_in.browser_url) ?? safeAddress(session.sign_in.url);
  if (!has_form && openDesktop === null) return null;
  return (
    <details class="something-else">
      <summary>{texts.something_else}</summary>
      <fieldset disabled={is_lost}>
        {has_form ? <AnswerForm session={session} label={texts.step_paste_answer} /> : null}
        {openDesktop === null ? null : <OpenInDesktop id={session.id} url={url} openDesktop={openDesktop} />}
      </fieldset>
    </details>
  );
}

/** Opens the address in the machine's browser, and its tab. */
function OpenInDesktop({ id, url, openDesktop }: { id: string; url: URL | null; openDesktop: () => void }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const note = useId();
  const open = () => {
    setProblem(null);
    if (url === null) return openDesktop();
    api.openUrl(id, url.href).then(openDesktop, (error: unknown) => setProblem(toProblem(error)));
  };
  return (
    <>
      <button type="button" data-action="use-desktop" aria-describedby={problem === null ? undefined : note} onClick={open}>
        {texts.use_desktop_instead}
      </button>
      {problem === null ? null : (
        <div id={note}>
          <ProblemNote problem={problem} />
        </div>
      )}
    </>
  );
}
