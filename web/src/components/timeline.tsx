// The timeline: what happened in the session, oldest first. For operators, in English.

import type { TimelineEntry } from "../api";

function timeOf(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? at : date.toLocaleTimeString([], { hour12: false });
}

function isEmpty(data: unknown): boolean {
  return data === null || data === undefined || (typeof data === "object" && Object.keys(data).length === 0);
}

export function Timeline({ entries, open }: { entries: readonly TimelineEntry[]; open: boolean }) {
  return (
    <details class="timeline" open={open} lang="en">
      <summary>
        Timeline <span class="count">{entries.length}</span>
      </summary>
      {entries.length === 0 ? (
        <p class="muted">Nothing yet.</p>
      ) : (
        <ol>
          {entries.map((entry) => (
            <li key={entry.number} data-kind={entry.kind}>
              <time dateTime={entry.at}>{timeOf(entry.at)}</time>
              <div>
                {entry.sentence}
                {isEmpty(entry.data) ? null : (
                  <details class="data">
                    <summary>{entry.kind}</summary>
                    <pre>{JSON.stringify(entry.data, null, 2)}</pre>
                  </details>
                )}
              </div>
            </li>
          ))}
        </ol>
      )}
    </details>
  );
}
