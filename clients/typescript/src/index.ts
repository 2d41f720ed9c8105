// A typed client of Anteroom's API. The types of operations and schemas come from the OpenAPI document (`api-types.ts`).

import { readEvents } from "./event-stream.js";
import type { components, paths } from "./api-types.js";

export type Schemas = components["schemas"];
type Method = "get" | "post" | "delete";
type Operation<P extends keyof paths, M extends Method> = Exclude<paths[P][M], undefined>;
type JsonOf<R> = R extends { content: { "application/json": infer T } } ? T : undefined;
type Answer<O> = O extends { responses: infer R } ? { [S in keyof R]: S extends 200 | 201 | 202 | 204 ? JsonOf<R[S]> : never }[keyof R] : never;
type Part<O, Name extends "path" | "query"> = O extends { parameters: { [N in Name]?: infer T } } ? T : never;
type Body<O> = O extends { requestBody: { content: { "application/json": infer B } } } ? { body: B } : { body?: never };
export type Options<O> = Body<O> &
  ([Part<O, "path">] extends [never | undefined] ? { path?: never } : { path: Part<O, "path"> }) & { query?: Part<O, "query">; signal?: AbortSignal };

export type SessionEvent =
  | { type: "session"; data: Schemas["SessionView"] }
  | { type: "timeline"; data: Schemas["TimelineEntry"] }
  | { type: "helpers"; data: Schemas["HelperList"] };

/** A request that the server, or a proxy in front of it, refused. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    /** `null`: the answer is not of this API. */
    readonly problem: Schemas["ProblemDetails"] | Schemas["ProblemBody"] | null,
  ) {
    super(problem === null ? `the server answered ${status}` : `${status} ${problem.code}: ${problem.sentence} ${problem.detail ?? ""}`.trim());
    this.name = "ApiError";
  }
}

/** A `WebSocket` whose handshake can have headers. */
export type WebSocketWithHeaders = new (url: URL, protocols: string[], options: { headers: Record<string, string> }) => WebSocket;

export interface Settings {
  /** The address of the server, without a path. */
  baseUrl: string;
  /** An API token. */
  token: string;
  /** For sockets: the class `WebSocket` of the package `ws`, which can send the token. */
  WebSocket?: WebSocketWithHeaders;
}

const RETRY_MS = 1_000;

/** Whether a session of this status has ended. */
export const isEnded = (status: Schemas["SessionStatus"]): boolean => ["completed", "failed", "cancelled", "expired"].includes(status);

export class Anteroom {
  readonly #baseUrl: string;
  readonly #token: string;
  readonly #WebSocket: WebSocketWithHeaders | undefined;

  constructor(settings: Settings) {
    this.#baseUrl = settings.baseUrl.replace(/\/+$/, "");
    this.#token = settings.token;
    this.#WebSocket = settings.WebSocket;
  }

  /** Calls an operation. Throws an `ApiError` for an answer of 4xx or 5xx. */
  async request<P extends keyof paths & string, M extends Method & keyof paths[P]>(
    method: M,
    path: P,
    options: Options<Operation<P, M>>,
  ): Promise<Answer<Operation<P, M>>> {
    const given = options as { path?: Record<string, string>; query?: Record<string, unknown>; body?: unknown; signal?: AbortSignal };
    const url = new URL(path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(given.path?.[name] ?? "")), this.#baseUrl);
    for (const [name, value] of Object.entries(given.query ?? {})) if (value !== undefined && value !== null) url.searchParams.set(name, String(value));
    const response = await this.#fetch(url, {
      method: method.toUpperCase(),
      headers: { Accept: "application/json", ...(given.body === undefined ? {} : { "Content-Type": "application/json" }) },
      ...(given.body === undefined ? {} : { body: JSON.stringify(given.body) }),
      ...(given.signal === undefined ? {} : { signal: given.signal }),
    });
    return (response.status === 204 ? undefined : await response.json()) as Answer<Operation<P, M>>;
  }

  async #fetch(url: URL, init: RequestInit & { headers: Record<string, string> }): Promise<Response> {
    const response = await fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${this.#token}` } });
    if (response.ok) return response;
    const body: unknown = await response.json().catch(() => null);
    const isProblem = typeof body === "object" && body !== null && "code" in body;
    throw new ApiError(response.status, isProblem ? (body as Schemas["ProblemBody"]) : null);
  }

  /** Follows a session until it has ended. `after`: the number of the last known timeline entry. */
  async *sessionEvents(session: string, { after = 0, signal }: { after?: number; signal?: AbortSignal } = {}): AsyncGenerator<SessionEvent> {
    const url = new URL(`/api/auth/session/${encodeURIComponent(session)}/events`, this.#baseUrl);
    let last = String(after);
    for (let ended = false; !ended; ) {
      try {
        const headers = { Accept: "text/event-stream", "Last-Event-ID": last };
        const response = await this.#fetch(url, { headers, ...(signal === undefined ? {} : { signal }) });
        if (response.status === 204) {
          // It has ended, and all entries are known.
          yield { type: "session", data: await this.request("get", "/api/auth/session/{id}", { path: { id: session } }) };
          return;
        }
        for await (const event of readEvents(response)) {
          last = event.id ?? last;
          const data: unknown = JSON.parse(event.data);
          if (event.type === "closed") throw new ApiError(401, data as Schemas["ProblemBody"]);
          if (event.type === "session") ended ||= isEnded((data as Schemas["SessionView"]).status);
          if (["session", "timeline", "helpers"].includes(event.type)) yield { type: event.type, data } as SessionEvent;
        }
      } catch (error) {
        if (error instanceof ApiError || signal?.aborted) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** Opens the tool's terminal: binary messages both ways; the text message `{"cols":120,"rows":40}` changes its size. */
  openTerminal(session: string, { cols = 80, rows = 24 } = {}): Promise<WebSocket> {
    return this.#open(session, { purpose: "terminal" }, `terminal?cols=${cols}&rows=${rows}`);
  }

  /** Opens the desktop: RFB 3.8 in binary messages. */
  openDesktop(session: string, { viewOnly = false } = {}): Promise<WebSocket> {
    return this.#open(session, { purpose: "desktop", view_only: viewOnly }, "novnc/websock");
  }

  async #open(session: string, body: Schemas["TicketRequest"], path: string): Promise<WebSocket> {
    if (this.#WebSocket === undefined) throw new Error("the constructor was given no WebSocket class");
    const { ticket } = await this.request("post", "/api/auth/session/{id}/ticket", { path: { id: session }, body });
    const url = new URL(`/api/auth/session/${encodeURIComponent(session)}/${path}`, this.#baseUrl.replace(/^http/, "ws"));
    const headers = { Authorization: `Bearer ${this.#token}` };
    const socket = new this.#WebSocket(url, ["binary", `ticket.${ticket}`], { headers });
    socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      socket.addEventListener("open", () => resolve(socket), { once: true });
      socket.addEventListener("error", () => reject(new Error("the WebSocket was refused")), { once: true });
      socket.addEventListener("close", ({ code, reason }) => reject(new Error(`closed with ${code}: ${reason}`)), { once: true });
    });
  }
}
