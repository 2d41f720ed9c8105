// The stages of a session's starts as bars, one after the other.

import type { TimelineEntry } from "../api";
import { formatDuration } from "./format";

interface Bar {
  name: string;
  from_ms: number;
  to_ms: number;
}

interface Timings {
  spawned_ms: number;
  channel_ms: number;
  agent_info_ms: number;
  ready_ms: number;
}

function timingsOf(entry: TimelineEntry | undefined): Timings | null {
  const data = entry?.data as { timings?: Partial<Timings> } | null | undefined;
  const { spawned_ms, channel_ms, agent_info_ms, ready_ms } = data?.timings ?? {};
  if (spawned_ms === undefined || channel_ms === undefined || agent_info_ms === undefined || ready_ms === undefined) return null;
  return { spawned_ms, channel_ms, agent_info_ms, ready_ms };
}

/** The stages of the first machine's start, milliseconds since the session was accepted. */
export function stagesOf(timeline: readonly TimelineEntry[]): Bar[] {
  const first = (...kinds: string[]) => timeline.find(({ kind }) => kinds.includes(kind));
  const at = (entry: TimelineEntry | undefined) => (entry === undefined ? null : Date.parse(entry.at));
  const accepted = at(first("accepted"));
  if (accepted === null) return [];
  const bars: Bar[] = [];
  const add = (name: string, from: number | null, to: number | null) => {
    if (from !== null && to !== null) bars.push({ name, from_ms: from - accepted, to_ms: Math.max(from, to) - accepted });
  };
  const requested = at(first("machine_requested"));
  const ready = first("machine_ready");
  add("Queue", accepted, requested);
  const timings = timingsOf(ready);
  if (requested !== null && timings !== null) {
    add("Process", requested, requested + timings.spawned_ms);
    add("Channel", requested + timings.spawned_ms, requested + timings.channel_ms);
    add("Agent", requested + timings.channel_ms, requested + timings.agent_info_ms);
    add("Desktop", requested + timings.agent_info_ms, requested + timings.ready_ms);
    add("Claim", requested + timings.ready_ms, at(ready));
  }
  add("Tool", at(first("cli_started")), at(first("sign_in_url", "device_code", "prompt_opened")));
  return bars;
}

/** The width of the drawing, in its own units. */
const WIDTH = 1_000;
/** The width of the shortest bar, in the same units. */
const WIDTH_MIN = 4;

export function Waterfall({ timeline }: { timeline: readonly TimelineEntry[] }) {
  const bars = stagesOf(timeline);
  const end_ms = Math.max(1, ...bars.map(({ to_ms }) => to_ms));
  if (bars.length === 0) return <p class="empty">No machine was requested.</p>;
  const units = (duration_ms: number) => (duration_ms / end_ms) * WIDTH;
  return (
    <table class="compact waterfall">
      <thead class="visually-hidden">
        <tr>
          <th scope="col">Stage</th>
          <th scope="col">Position</th>
          <th scope="col">Duration</th>
        </tr>
      </thead>
      <tbody>
        {bars.map(({ name, from_ms, to_ms }) => (
          <tr key={name} data-stage={name.toLowerCase()}>
            <th scope="row">{name}</th>
            <td>
              <svg viewBox={`0 0 ${WIDTH} 10`} preserveAspectRatio="none" aria-hidden="true">
                <rect x={Math.min(units(from_ms), WIDTH - WIDTH_MIN)} y="0" width={Math.max(WIDTH_MIN, units(to_ms - from_ms))} height="10" />
              </svg>
            </td>
            <td class="number">{formatDuration(to_ms - from_ms)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
