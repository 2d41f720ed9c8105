// The numbered steps of a sign-in in the person's own browser. Each keeps its place while it has no content yet.

import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { SessionView, TimelineEntry } from "../api";
import { texts } from "../texts";
import { CopyButton } from "./copy-button";
import { AnswerForm, mayEndAtLoopback, PromptForm } from "./paste-form";
import { fitsQrCode, QrCode } from "./qr-code";
import { DeviceCode, isThisComputer, safeAddress } from "./sign-in-parts";

/** How the sign-in ends: the person enters the tool's code at the provider, gives the tool the provider's, or the address of an error page. */
export type SignInKind = "device_code" | "answer" | "address";

export function kindOf(session: SessionView): SignInKind {
  const { prompt, device_code } = session.sign_in;
  if (prompt !== null) return "answer";
  if (device_code !== null) return "device_code";
  if (session.sign_in.url !== null && mayEndAtLoopback(session)) return "address";
  return session.lanes.includes("device_code") ? "device_code" : "answer";
}

/** Whether the tool asks for something after the sign-in itself: the provider's page, its code or the tool's code are done then. */
export function isLaterPrompt({ sign_in: { prompt, device_code } }: SessionView, timeline: readonly TimelineEntry[]): boolean {
  if (prompt === null) return false;
  if (device_code !== null) return true;
  const start = timeline.findLastIndex((entry) => entry.kind === "cli_started");
  return timeline.slice(start + 1).some(({ kind, data }) => kind === "pasted" && isAnotherAnswer(data, prompt.id));
}

/** Whether what was pasted answered another prompt, or was the address of the page after the sign-in. */
function isAnotherAnswer(data: unknown, prompt: string): boolean {
  if (typeof data !== "object" || data === null || !("interpreted_as" in data)) return false;
  if (data.interpreted_as === "callback") return "status" in data && Number(data.status) < 400;
  return data.interpreted_as === "prompt" && "id" in data && data.id !== prompt;
}

interface SignInStepsProps {
  session: SessionView;
  kind: SignInKind;
  /** Whether the server does not answer: what needs it is off. */
  is_lost: boolean;
  /** Takes the place of the steps. `null`: nothing has failed. */
  failure: ComponentChildren;
  /** Opens the tab of the terminal; `null`: the method has none. */
  openTerminal: (() => void) | null;
}

export function SignInSteps({ session, kind, is_lost, failure, openTerminal }: SignInStepsProps) {
  const is_your_turn = session.for_person.phase === "your_turn";
  if (failure !== null) return <>{failure}</>;
  const steps = stepsOf(kind, session, is_lost, openTerminal);
  return (
    <ol class={`sign-in-steps ${kind}`}>
      {steps.map((step, index) => (
        <StepItem key={index} number={index + 1} is_placeholder={!is_your_turn}>
          {is_your_turn ? step.content : step.placeholder}
        </StepItem>
      ))}
    </ol>
  );
}

function StepItem({ number, is_placeholder = false, children }: { number: number; is_placeholder?: boolean; children: ComponentChildren }) {
  return (
    <li class={is_placeholder ? "placeholder" : undefined} aria-hidden={is_placeholder ? true : undefined}>
      <span class="step-number" aria-hidden="true">
        {number}
      </span>
      <div class="step-content">{children}</div>
    </li>
  );
}

interface Step {
  content: ComponentChildren;
  /** What keeps the place of the content while there is none. */
  placeholder: ComponentChildren;
}

function Blank({ kind }: { kind: "code" | "button" | "form" }) {
  return <span class={`blank blank-${kind}`} />;
}

/** The first step of a sign-in with a code: the code, or the way to the terminal that shows it. */
function CodeStep({ session, openTerminal }: { session: SessionView; openTerminal: (() => void) | null }) {
  const { device_code, device_code_until } = session.sign_in;
  if (session.for_person.situation === "code_in_terminal") {
    return (
      <>
        <p class="for-person">{session.for_person.sentence}</p>
        {openTerminal === null ? null : (
          <button type="button" class="primary" data-action="use-terminal" onClick={openTerminal}>
            {texts.open_terminal}
          </button>
        )}
      </>
    );
  }
  return (
    <>
      <p>{texts.step_copy_code}</p>
      {device_code === null ? <Blank kind="code" /> : <DeviceCode code={device_code} until={device_code_until} />}
    </>
  );
}

function stepsOf(kind: SignInKind, session: SessionView, is_lost: boolean, openTerminal: (() => void) | null): Step[] {
  const { prompt } = session.sign_in;
  const sign_in: Step = { content: <SignInLink session={session} />, placeholder: <Blank kind="button" /> };
  const text = (content: string): Step => ({ content: <p>{content}</p>, placeholder: <p>{content}</p> });
  switch (kind) {
    case "device_code":
      return [
        {
          content: <CodeStep session={session} openTerminal={openTerminal} />,
          placeholder: (
            <>
              <p>{texts.step_copy_code}</p>
              <Blank kind="code" />
            </>
          ),
        },
        sign_in,
        text(texts.step_enter_code),
      ];
    case "answer":
    case "address": {
      const label = kind === "address" ? texts.step_paste_address : texts.step_paste_answer;
      const form = prompt === null ? <AnswerForm session={session} label={label} /> : <PromptForm session={session} prompt={prompt} />;
      return [
        sign_in,
        text(kind === "address" ? texts.step_error_page : texts.step_copy_answer),
        { content: <fieldset disabled={is_lost}>{form}</fieldset>, placeholder: <Blank kind="form" /> },
      ];
    }
  }
}

function SignInLink({ session }: { session: SessionView }) {
  const [qr_shown, setQrShown] = useState(false);
  const is_offered = session.for_person.actions.includes("open_link");
  const url = is_offered ? safeAddress(session.sign_in.url) : null;
  // A tool that has shown its code or a prompt only: the sentence of its method leads on.
  if (url === null) return <p class="for-person">{session.for_person.sentence}</p>;
  const is_local = isThisComputer(url);
  return (
    <div class="sign-in-address">
      <div class="row">
        <a class="button primary" href={url.href} title={url.href} target="_blank" rel="noopener noreferrer">
          {texts.sign_in_at(url.host)}
          <span aria-hidden="true">↗</span>
          <span class="visually-hidden">{texts.in_new_tab}</span>
        </a>
        {fitsQrCode(url.href) && !is_local ? (
          <button type="button" class="on-phone" aria-expanded={qr_shown} aria-controls="sign-in-qr" onClick={() => setQrShown(!qr_shown)}>
            {texts.on_your_phone}
          </button>
        ) : null}
        <CopyButton text={url.href} name={texts.copy_address} label={texts.copy_link} />
      </div>
      {is_local ? <p class="hint not-on-phone">{texts.not_on_phone(url.hostname)}</p> : null}
      <div id="sign-in-qr" hidden={!qr_shown}>
        {qr_shown ? (
          <>
            <QrCode text={url.href} name={texts.copy_address} />
            <p class="hint">{texts.scan}</p>
          </>
        ) : null}
      </div>
    </div>
  );
}
