// Before a viewer sees the machine: who asks for the credential, and the person's agreement. The server enforces it.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, toProblem, type ConsentView, type Problem, type SessionView } from "../api";
import { texts } from "../texts";
import { ProblemNote } from "./problem-note";

interface ConsentStepProps {
  session: SessionView;
  consent: ConsentView;
  onAgreed: (consent: ConsentView) => void;
}

export function ConsentStep({ session, consent, onAgreed }: ConsentStepProps) {
  const { owner_name: owner } = consent;
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
      <h1 id="consent-title" ref={heading} tabIndex={-1}>
        {owner === null ? texts.connect_tool(session.provider_name) : texts.connect_to(session.provider_name, owner)}
      </h1>
      <p>{texts.temporary_computer(session.provider_name)}</p>
      <p>{consent.sentence}</p>
      <p class="muted">{texts.continue_only_if_known(owner ?? texts.default_owner)}</p>
      <div class="row consent-actions">
        <button
          type="button"
          class="button primary"
          disabled={busy}
          data-action="agree"
          onClick={() => send(api.giveConsent(session.id).then(onAgreed))}
        >
          {texts.continue}
        </button>
        <button type="button" class="quiet" disabled={busy} data-action="decline" onClick={() => send(api.cancel(session.id))}>
          {texts.not_now}
        </button>
      </div>
      {problem === null ? null : <ProblemNote problem={problem} />}
    </section>
  );
}
