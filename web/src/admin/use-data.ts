// Data of the API that a page reads, and reads again.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { isUnreachable, toProblem, type Problem } from "../api";
import { session_events } from "../session-events";

export interface Data<T> {
  value: T | null;
  problem: Problem | null;
  /** Reads again; a read that is still running is not used. */
  reload: () => void;
}

interface Refresh {
  /** The interval in which it is read again while the page is visible. */
  every_ms?: number | undefined;
  /** Whether it is read again soon after sessions changed. */
  with_sessions?: boolean;
  /** It is read again when this changes. */
  when?: string;
}

/** Changes of sessions that arrive together cause one read. */
const READ_DELAY_MS = 1_000;
/** The pause after a read that the server did not answer. */
const RETRY_MS = 3_000;

/**
 * Reads `load()` at once, when `key` changes, and as `refresh` demands. What was read stays until it is replaced.
 * @param key identifies what `load` reads
 */
export function useData<T>(key: string, load: () => Promise<T>, { every_ms, with_sessions = false, when }: Refresh = {}): Data<T> {
  const [state, setState] = useState<{ key: string; value: T | null; problem: Problem | null }>({ key, value: null, problem: null });
  const newest = useRef(0);
  const latest_load = useRef(load);
  latest_load.current = load;
  const retry_timer = useRef<number | undefined>(undefined);
  const latest_reload = useRef(() => {});
  const reload = useCallback(() => {
    window.clearTimeout(retry_timer.current);
    const number = ++newest.current;
    latest_load.current().then(
      (value) => {
        if (number === newest.current) setState({ key, value, problem: null });
      },
      (error: unknown) => {
        if (number !== newest.current) return;
        setState((before) => ({ ...before, problem: toProblem(error) }));
        if (isUnreachable(error)) retry_timer.current = window.setTimeout(() => latest_reload.current(), RETRY_MS);
      },
    );
  }, [key]);
  latest_reload.current = reload;
  useEffect(() => {
    reload();
    const onVisible = () => {
      if (document.visibilityState === "visible") reload();
    };
    document.addEventListener("visibilitychange", onVisible);
    const timer = every_ms === undefined ? undefined : window.setInterval(onVisible, every_ms);
    return () => {
      // Its answer would be of another key or page.
      newest.current += 1;
      window.clearTimeout(retry_timer.current);
      document.removeEventListener("visibilitychange", onVisible);
      window.clearInterval(timer);
    };
  }, [reload, every_ms, when]);
  useEffect(() => {
    if (!with_sessions) return undefined;
    let timer: number | undefined;
    const reloadSoon = () => {
      timer ??= window.setTimeout(() => {
        timer = undefined;
        reload();
      }, READ_DELAY_MS);
    };
    const stop = session_events.listen({ onSession: reloadSoon, onReset: reloadSoon });
    return () => {
      stop();
      window.clearTimeout(timer);
    };
  }, [reload, with_sessions]);
  return { value: state.key === key ? state.value : null, problem: state.problem, reload };
}
