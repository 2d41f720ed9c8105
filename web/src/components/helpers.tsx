// The helpers of a session and its open invitations, with buttons that end their access. Who comes and leaves is announced once.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, toProblem, type HelperView, type Problem } from "../api";
import { clock } from "../clock";
import { helperChanges } from "../helper-changes";
import { texts } from "../texts";
import { DateTime } from "./date-time";
import { ProblemNote } from "./problem-note";

/** A helper who reloads a page leaves and comes back: only what lasts this long is announced. */
const SETTLED_MS = 2_000;
/** The longest time that browsers accept for a timer. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Returns what changed since the last announcement. */
function useAnnouncement(helpers: readonly HelperView[] | null): string {
  const announced = useRef<readonly HelperView[] | null>(null);
  const [text, setText] = useState("");
  useEffect(() => {
    if (helpers === null) return undefined;
    // The list at the opening of the page is no news.
    const before = (announced.current ??= helpers);
    const timer = window.setTimeout(() => {
      announced.current = helpers;
      const changes = helperChanges(before, helpers);
      if (changes !== "") setText(changes);
    }, SETTLED_MS);
    return () => window.clearTimeout(timer);
  }, [helpers]);
  return text;
}

/** The helpers without the invitations that have expired; the server sends no event for that. */
function useUnexpired(helpers: readonly HelperView[] | null): HelperView[] {
  const [, setNow] = useState(0);
  const end_ms = (helper: HelperView) => (helper.status === "invited" ? Date.parse(helper.expires_at ?? "") : Infinity);
  const shown = (helpers ?? []).filter((helper) => !(end_ms(helper) <= clock.now_ms()));
  const next_ms = Math.min(...shown.map(end_ms));
  useEffect(() => {
    if (!Number.isFinite(next_ms)) return undefined;
    const timer = window.setTimeout(() => setNow(Date.now()), Math.min(next_ms - clock.now_ms() + 100, TIMER_MS_MAX));
    return () => window.clearTimeout(timer);
  }, [next_ms]);
  return shown;
}

export function Helpers({ id, helpers }: { id: string; helpers: readonly HelperView[] | null }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const section = useRef<HTMLDivElement>(null);
  const announcement = useAnnouncement(helpers);
  const shown = useUnexpired(helpers);
  const endAccess = (helper: string) => {
    setProblem(null);
    // The event stream removes the row; its button had the focus.
    api.endHelper(id, helper).then(
      () => section.current?.focus(),
      (error: unknown) => setProblem(toProblem(error)),
    );
  };
  return (
    <div ref={section} tabIndex={-1} class="helpers" data-helpers>
      <p class="visually-hidden" role="status" data-helpers-announcement>
        {announcement}
      </p>
      {shown.length === 0 ? null : (
        <>
          <h3>{texts.helpers.title}</h3>
          <ul class="list">
            {shown.map((helper) => (
              <li key={helper.id} data-helper={helper.status}>
                <span class="list-main">{helper.name}</span>
                <button type="button" class="small" data-action="end-helper" onClick={() => endAccess(helper.id)}>
                  {texts.helpers.end_access}
                  <span class="visually-hidden">{texts.helpers.of(helper.name)}</span>
                </button>
                <span class="list-text muted">
                  <HelperState helper={helper} />
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
      {problem === null ? null : <ProblemNote problem={problem} />}
    </div>
  );
}

function HelperState({ helper }: { helper: HelperView }) {
  const { invited, works_until, watching, not_watching, last_seen } = texts.helpers;
  switch (helper.status) {
    case "invited":
      return <StateWithTime text={invited} until={works_until} at={helper.expires_at} />;
    case "connected":
      return <>{watching}</>;
    case "away":
      return <StateWithTime text={not_watching} until={last_seen} at={helper.last_seen_at} />;
  }
}

/** A text and, if there is one, a time with the words before it. */
function StateWithTime({ text, until, at }: { text: string; until: string; at: string | null }) {
  return at === null ? (
    <>{text}</>
  ) : (
    <>
      {text}
      {until} <DateTime at={at} />
    </>
  );
}
