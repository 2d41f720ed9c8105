// How news of a session and what is known already become one, whatever order the news arrives in.

import type { SessionView, TimelineEntry } from "./api";
import { isOver } from "./labels";

const TIMELINE_ENTRIES_MAX = 2_000;

/** Puts entries in by number; a number that is there stays as it is. Beyond the limit, the oldest go. */
export function mergeTimeline(have: readonly TimelineEntry[], more: readonly TimelineEntry[]): readonly TimelineEntry[] {
  const numbers = new Set(have.map((entry) => entry.number));
  const fresh = more.filter((entry) => !numbers.has(entry.number));
  if (fresh.length === 0) return have;
  return [...have, ...fresh].sort((a, b) => a.number - b.number).slice(-TIMELINE_ENTRIES_MAX);
}

/** Whether `next` may replace `have`: an ended session does not come back, a machine's number does not fall. */
export function supersedes(have: SessionView | null, next: SessionView): boolean {
  if (have === null) return true;
  if (isOver(have.status) && !isOver(next.status)) return false;
  return next.generation >= have.generation;
}
