// Merges updates of a session into the known state. Updates may arrive in any order, from the stream and from polling.

import type { SessionView, TimelineEntry } from "./api";
import { hasEnded } from "./labels";

const TIMELINE_ENTRIES_MAX = 2_000;

/** Adds entries in the order of their numbers. A known number is not replaced. Beyond the limit, the oldest entries are dropped. */
export function mergeTimeline(known: readonly TimelineEntry[], received: readonly TimelineEntry[]): readonly TimelineEntry[] {
  const numbers = new Set(known.map((entry) => entry.number));
  const added = received.filter((entry) => !numbers.has(entry.number));
  if (added.length === 0) return known;
  return [...known, ...added].sort((a, b) => a.number - b.number).slice(-TIMELINE_ENTRIES_MAX);
}

/** Whether `next` may replace `known`: an ended session stays ended, and the generation of the machine does not decrease. */
export function supersedes(known: SessionView | null, next: SessionView): boolean {
  if (known === null) return true;
  if (hasEnded(known.status) && !hasEnded(next.status)) return false;
  return next.generation >= known.generation;
}
