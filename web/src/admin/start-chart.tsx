// A chart of the durations of starts. Its library is loaded when a chart is shown.

import { useEffect, useRef } from "preact/hooks";
import type { Overview } from "./api";
import { formatDuration } from "./format";

type History = Overview["start_history"];

const HEIGHT_PX = 120;

const timeOf = (at_s: number) => new Date(at_s * 1_000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });

/** The chart's colours, from the style of the page. */
function colours(element: Element): { text: string; line: string; p50: string; p95: string } {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return { text: of("--soft"), line: of("--line"), p50: of("--accent"), p95: of("--warn") };
}

export function StartChart({ history }: { history: History }) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = host.current;
    if (element === null || history.length < 2) return;
    let chart: { destroy: () => void; setSize: (size: { width: number; height: number }) => void } | null = null;
    let is_gone = false;
    const observer = new ResizeObserver(() => chart?.setSize({ width: element.clientWidth, height: HEIGHT_PX }));
    void import("uplot").then(({ default: UPlot }) => {
      if (is_gone) return;
      const { text, line, p50, p95 } = colours(element);
      const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      const points = { show: true, size: 5 };
      chart = new UPlot(
        {
          width: element.clientWidth,
          height: HEIGHT_PX,
          legend: { show: false },
          cursor: { show: false },
          padding: [10, 10, 0, 4],
          scales: { y: { range: (_, __, max) => [0, max * 1.1] } },
          axes: [
            { ...axis, size: 24, space: 70, values: (_, times) => times.map(timeOf) },
            { ...axis, size: 56, space: 30, values: (_, values) => values.map((value) => formatDuration(value)) },
          ],
          series: [{}, { stroke: p50, width: 2, points }, { stroke: p95, width: 2, points, dash: [4, 3] }],
        },
        [
          history.map(({ at }) => Date.parse(at) / 1_000),
          history.map(({ p50_ms }) => p50_ms),
          history.map(({ p95_ms }) => p95_ms),
        ],
        element,
      );
      observer.observe(element);
    });
    return () => {
      is_gone = true;
      observer.disconnect();
      chart?.destroy();
    };
  }, [history]);
  if (history.length < 2) return null;
  return (
    <figure class="chart">
      <div ref={host} role="img" aria-label="Durations of starts over time; the table has the figures of the whole period" />
      <figcaption>
        <span class="key p50">p50</span> <span class="key p95">p95</span>
      </figcaption>
    </figure>
  );
}
