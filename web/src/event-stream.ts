// Server-sent events over fetch: unlike EventSource, it can send the header with the browser's key.

import { browserKey } from "./browser-key";

export interface EventStreamHandlers {
  /** Something arrived, an event or a keep-alive. */
  onActivity?: () => void;
  /** `id`: the number of the last event that had one. */
  onEvent: (name: string, data: string, id: number | undefined) => void;
  /** The stream ended. `status`: of the response, 0 if there was none. `retry_ms`: the delay that the server asked for. */
  onEnd: (status: number, retry_ms: number) => void;
}

const DEFAULT_RETRY_MS = 1_000;

/** Splits the text of a stream into events (HTML Standard §9.2.6). A line may arrive in several parts. */
export class EventParser {
  #rest = "";
  #name = "";
  #id: number | undefined;
  #data: string[] = [];
  retry_ms = DEFAULT_RETRY_MS;

  constructor(private readonly onEvent: (name: string, data: string, id: number | undefined) => void) {}

  push(text: string): void {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#parse(line);
  }

  #parse(line: string): void {
    if (line === "") {
      if (this.#data.length > 0) this.onEvent(this.#name === "" ? "message" : this.#name, this.#data.join("\n"), this.#id);
      this.#name = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && /^\d+$/.test(value)) this.#id = Number(value);
    else if (field === "retry" && /^\d+$/.test(value)) this.retry_ms = Number(value);
  }
}

export class EventStream {
  readonly #abort = new AbortController();

  /** @param last_event_id the number of the last known event; the stream continues after it */
  constructor(path: string, last_event_id: number | undefined, handlers: EventStreamHandlers) {
    void this.#run(path, last_event_id, handlers);
  }

  /** Ends the stream without another call of a handler. */
  close(): void {
    this.#abort.abort();
  }

  async #run(path: string, last_event_id: number | undefined, handlers: EventStreamHandlers): Promise<void> {
    const { signal } = this.#abort;
    const parser = new EventParser((name, data, id) => {
      if (!signal.aborted) handlers.onEvent(name, data, id);
    });
    let status = 0;
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream", "X-Anteroom": browserKey() };
      if (last_event_id !== undefined) headers["Last-Event-ID"] = String(last_event_id);
      const response = await fetch(path, { headers, credentials: "same-origin", cache: "no-store", signal });
      status = response.status;
      const reader = response.ok ? response.body?.getReader() : undefined;
      const decoder = new TextDecoder();
      for (;;) {
        const part = await reader?.read();
        if (part === undefined || part.done) break;
        if (!signal.aborted) handlers.onActivity?.();
        parser.push(decoder.decode(part.value, { stream: true }));
      }
    } catch {
      // The connection broke.
    }
    if (!signal.aborted) handlers.onEnd(status, parser.retry_ms);
  }
}
