// Reports that the machine was replaced, once for each replacement, until the user confirms it.

import { useState } from "preact/hooks";
import type { SessionView, TimelineEntry } from "../api";

/** The sentence of the newest entry about the end of a machine. */
function replacementCause(timeline: readonly TimelineEntry[]): string | null {
  const entry = [...timeline].reverse().find((candidate) => candidate.kind === "machine_exited");
  return entry?.sentence ?? null;
}

export function ReplacedNotice({ session, timeline }: { session: SessionView; timeline: readonly TimelineEntry[] }) {
  const [confirmed_generation, setConfirmedGeneration] = useState(1);
  const replacing = session.status === "vm_stopped";
  if (!replacing && session.generation <= confirmed_generation) return null;
  const cause = session.reason?.sentence ?? replacementCause(timeline);
  return (
    <div class="note warn" role="status" data-notice="replaced">
      <p>
        <strong>{replacing ? "The machine stopped and is being replaced." : "The machine was replaced. Sign in again."}</strong>{" "}
        {cause}
      </p>
      <p>
        This is machine {session.generation} of at most {session.generations_max}. An unfinished sign-in starts again.
      </p>
      {replacing ? null : (
        <button type="button" class="small" onClick={() => setConfirmedGeneration(session.generation)}>
          OK
        </button>
      )}
    </div>
  );
}
