// Before a viewer sees the machine: who asks for the credential, and the person's agreement. The server enforces it.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, toProblem, type ConsentView, type Problem } from "../api";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

interface ConsentStepProps {
  id: string;
  consent: ConsentView;
  onAgreed: (consent: ConsentView) => void;
}

export function ConsentStep({ id, consent, onAgreed }: ConsentStepProps) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  // The keyboard starts here, and a screen reader reads the question first.
  useEffect(() => heading.current?.focus(), []);
  const send = (request: Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    request.then(
      () => setBusy(false),
      (error: unknown) => {
        setBusy(false);
        setProblem(toProblem(error));
      },
    );
  };
  return (
    <section class="panel consent" aria-labelledby="consent-title" data-consent="required">
      <h2 id="consent-title" ref={heading} tabIndex={-1}>
        Before you sign in
      </h2>
      <p>{consent.sentence}</p>
      <p class="muted">Continue only if you know {consent.owner_name} and expect this request.</p>
      <div class="row">
        <button
          type="button"
          class="button primary"
          disabled={busy}
          data-action="agree"
          onClick={() => send(api.giveConsent(id).then(onAgreed))}
        >
          Continue
        </button>
        <button type="button" disabled={busy} data-action="decline" onClick={() => send(api.cancel(id))}>
          {texts.not_now}
        </button>
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </section>
  );
}
