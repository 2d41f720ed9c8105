// Data of the API that a page reads, and reads again.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { toProblem, type Problem } from "../api";

export interface Data<T> {
  value: T | null;
  problem: Problem | null;
  /** Reads again; a read that is still running is not used. */
  reload: () => void;
}

/**
 * Reads `load()` at once and when `key` changes, and every `every_ms` while the page is visible. What was read stays until it is replaced.
 * @param key identifies what `load` reads
 */
export function useData<T>(key: string, load: () => Promise<T>, every_ms?: number): Data<T> {
  const [state, setState] = useState<{ key: string; value: T | null; problem: Problem | null }>({ key, value: null, problem: null });
  const newest = useRef(0);
  const latest_load = useRef(load);
  latest_load.current = load;
  const reload = useCallback(() => {
    const number = ++newest.current;
    latest_load.current().then(
      (value) => {
        if (number === newest.current) setState({ key, value, problem: null });
      },
      (error: unknown) => {
        if (number === newest.current) setState((before) => ({ ...before, problem: toProblem(error) }));
      },
    );
  }, [key]);
  useEffect(() => {
    reload();
    const onVisible = () => {
      if (document.visibilityState === "visible") reload();
    };
    document.addEventListener("visibilitychange", onVisible);
    const timer = every_ms === undefined ? undefined : window.setInterval(onVisible, every_ms);
    return () => {
      newest.current += 1;
      document.removeEventListener("visibilitychange", onVisible);
      window.clearInterval(timer);
    };
  }, [reload, every_ms]);
  return { value: state.key === key ? state.value : null, problem: state.problem, reload };
}
