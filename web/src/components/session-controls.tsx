// How long the session lives, and the two ways to interfere: another machine, or the end.

import { useState } from "preact/hooks";
import { api, asProblem, type ProblemBody, type SessionView } from "../api";
import { Ask } from "./confirm-dialog";
import { Countdown } from "./countdown";
import { ProblemNote } from "./problem-note";

type Question = "cancel" | "restart";

const WORDS: Record<Question, { question: string; detail: string; yes: string; no: string }> = {
  cancel: {
    question: "Cancel this session?",
    detail: "The machine is destroyed and no credential is kept. A sign-in that is under way is lost.",
    yes: "Cancel the session",
    no: "Go on",
  },
  restart: {
    question: "Replace the machine?",
    detail: "The machine is destroyed and a new one is started for this session. A sign-in that is under way is lost.",
    yes: "Replace it",
    no: "Keep it",
  },
};

/** An external machine is not this server's to destroy. */
const EXTERNAL_CANCEL = {
  ...WORDS.cancel,
  detail: "The machine itself goes on; no credential is kept. A sign-in that is under way there is lost to this server.",
};

function words(question: Question, session: SessionView): (typeof WORDS)[Question] {
  return question === "cancel" && session.machine !== null ? EXTERNAL_CANCEL : WORDS[question];
}

export function Controls({ session }: { session: SessionView }) {
  const [asked, ask] = useState<Question | null>(null);
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [busy, setBusy] = useState(false);
  const answered = (question: Question, yes: boolean) => {
    ask(null);
    if (!yes) return;
    setBusy(true);
    setProblem(null);
    const done = question === "cancel" ? api.cancel(session.id) : api.restart(session.id);
    done.then(
      () => setBusy(false),
      (thrown: unknown) => {
        setBusy(false);
        setProblem(asProblem(thrown));
      },
    );
  };
  const spare = session.generations_max - session.generation;
  return (
    <section class="controls" aria-label="This session">
      <p class="limits">
        <Countdown until={session.idle_deadline_at} before="Ends if unused in" />
        <Countdown until={session.deadline_at} before="Ends at the latest in" />
      </p>
      <div class="row">
        <button type="button" class="small" disabled={busy} data-action="cancel" onClick={() => ask("cancel")}>
          Cancel session
        </button>
        {spare > 0 ? (
          <button type="button" class="small" disabled={busy} data-action="restart" onClick={() => ask("restart")}>
            Replace machine
          </button>
        ) : null}
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
      {asked === null ? null : <Ask {...words(asked, session)} onAnswer={(yes) => answered(asked, yes)} />}
    </section>
  );
}
