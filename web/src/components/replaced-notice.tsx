// The machine was replaced: said once for each replacement, until it is read.

import { useState } from "preact/hooks";
import type { SessionView, TimelineEntry } from "../api";

/** The newest entry that tells of a machine's end, for the words of why. */
export function whyReplaced(timeline: readonly TimelineEntry[]): string | null {
  const entry = [...timeline].reverse().find((candidate) => candidate.kind === "machine_exited");
  return entry?.sentence ?? null;
}

export function Replaced({ session, timeline }: { session: SessionView; timeline: readonly TimelineEntry[] }) {
  const [read, setRead] = useState(1);
  const replacing = session.status === "vm_stopped";
  if (!replacing && session.generation <= read) return null;
  const why = session.reason?.sentence ?? whyReplaced(timeline);
  return (
    <div class="note warn" role="status" data-notice="replaced">
      <p>
        <strong>{replacing ? "The machine ended and is being replaced." : "The machine was replaced by a new one."}</strong>{" "}
        {why}
      </p>
      <p>
        This is machine {session.generation} of at most {session.generations_max}. A sign-in that was under way starts again in
        it.
      </p>
      {replacing ? null : (
        <button type="button" class="small" onClick={() => setRead(session.generation)}>
          Understood
        </button>
      )}
    </div>
  );
}
