// On a page that only watches: that its keys and clicks are not sent.

import type { SessionView } from "../api";
import { sessionPath } from "../pages";
import { texts } from "../texts";
import { ClosingSoon } from "./closing-soon";

export function ViewOnlyNotice({ session, can_control }: { session: SessionView; can_control: boolean }) {
  return (
    <div class="note" data-notice="view-only">
      <p>
        <strong>{texts.view_only}</strong> {texts.view_only_detail}
      </p>
      <ClosingSoon session={session} can_keep_open={false} />
      {can_control ? (
        <p>
          <a class="button small" href={sessionPath(session.id, { provider: session.provider })}>
            {texts.take_control}
          </a>
        </p>
      ) : null}
    </div>
  );
}
