// Above the remote browser and the terminal: what the person does there, the code to enter, and what failed.

import type { SessionView } from "../api";
import { preferredTab, tabsOf, type LaneTab } from "../lanes";
import { texts } from "../texts";
import { FailureActions, StartingTool } from "./failure-actions";
import { IfRefused } from "./if-refused";
import { PromptForm } from "./paste-form";
import { DeviceCode, Sentence, ToolFailure, UnexpectedAddress } from "./sign-in-parts";

function YourTurn({ session, is_lost }: { session: SessionView; is_lost: boolean }) {
  const { device_code, device_code_until, prompt } = session.sign_in;
  return (
    <>
      <ToolFailure session={session} open />
      {device_code === null ? null : <DeviceCode code={device_code} until={device_code_until} />}
      {prompt === null || session.machine !== null ? null : (
        <fieldset disabled={is_lost}>
          <PromptForm session={session} prompt={prompt} />
        </fieldset>
      )}
    </>
  );
}

interface LaneGuideProps {
  session: SessionView;
  tab: Exclude<LaneTab, "own">;
  is_lost: boolean;
  /** Opens the tab of the person's own browser; `null`: the method has none. */
  openOwn: (() => void) | null;
}

/** A method's own sentence is about its preferred lane. */
function sentenceFor(session: SessionView, tab: LaneGuideProps["tab"]): string {
  const { phase, situation, sentence } = session.for_person;
  return phase === "your_turn" && situation !== "setting_needed" && preferredTab(session, tabsOf(session, false)) === "own" ? texts.in_lane[tab] : sentence;
}

export function LaneGuide({ session, tab, is_lost, openOwn }: LaneGuideProps) {
  const { phase, situation } = session.for_person;
  const sentence = sentenceFor(session, tab);
  const has_failed = phase === "needs_attention" || phase === "failed";
  return (
    <section class="next-action lane-guide" aria-labelledby="next-action" data-situation={situation}>
      <h2 id="next-action" class="visually-hidden">
        {texts.next_action_title}
      </h2>
      {sentence === "" ? null : (
        <p class="for-person">
          <Sentence text={sentence} />
        </p>
      )}
      {situation === "tool_starting" || situation === "page_opening" ? <StartingTool session={session} /> : null}
      <UnexpectedAddress session={session} />
      {phase === "your_turn" ? <YourTurn session={session} is_lost={is_lost} /> : null}
      <IfRefused session={session} is_lost={is_lost} openOwn={tab === "desktop" ? openOwn : null} />
      {has_failed ? (
        <fieldset disabled={is_lost}>
          <FailureActions session={session} />
          <ToolFailure session={session} open={false} />
        </fieldset>
      ) : null}
    </section>
  );
}
