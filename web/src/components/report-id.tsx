// What a person gives to the people who run this server when something failed: the session's id, from which they make a support bundle.

import type { SessionView } from "../api";
import { texts } from "../texts";
import { CopyButton } from "./copy-button";

export function ReportId({ session }: { session: SessionView }) {
  return (
    <div class="row report-id" data-report={session.id}>
      <span>
        {texts.report} <code>{session.id.replace(/^ses_/, "")}</code>
      </span>
      <CopyButton text={session.id} name={texts.report_id} />
      <p class="hint">{texts.report_hint(session.for_person.values.owner ?? texts.default_owner)}</p>
    </div>
  );
}
