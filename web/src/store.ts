// An observable value, and the hook that reads it in a component.

import { useEffect, useState } from "preact/hooks";

export class Store<T> {
  #value: T;
  readonly #subscribers = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const subscriber of [...this.#subscribers]) subscriber(value);
  }

  /** Calls `subscriber` on each change. Returns the function that unsubscribes. */
  subscribe(subscriber: (value: T) => void): () => void {
    this.#subscribers.add(subscriber);
    return () => {
      this.#subscribers.delete(subscriber);
    };
  }
}

export function useStore<T>(store: Store<T>): T {
  const [value, set] = useState(store.value);
  useEffect(() => {
    set(() => store.value);
    return store.subscribe((next) => set(() => next));
  }, [store]);
  return value;
}
