// A fake of the API for the page tests: it keeps its state in memory and has no machines. A test changes its state with its methods
// (`change`, `closeDesktops`, …) and checks the requests of the pages (`requests`).

import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { WebSocketServer } from "ws";
import { AdminApi } from "./admin.mjs";
import { servePage } from "./files.mjs";
import { RfbServer } from "./rfb.mjs";
import { credential, forPerson, newSession, ownerForPerson, providers, signIn, signedInBrowsers } from "./samples.mjs";

/** What people read, by the code of the problem. @type {Record<string, string>} */
const PROBLEMS_FOR_PERSON = {
  ticket_used: "This link was used before or has expired. Go back to where you came from and start again.",
  unknown_session: "There is nothing here any more. Go back to where you came from and start again.",
  no_capacity: "No computer is free at the moment. Please try again later.",
};

/** @typedef {import("./samples.mjs").Session} Session */
/** @typedef {{ socket: import("ws").WebSocket, rfb: RfbServer | null, session: string }} Viewer */

export class FakeServer {
  /** @type {Map<string, Session>} */
  sessions = new Map();
  /** @type {Map<string, { number: number, at: string, kind: string, sentence: string, data: unknown }[]>} */
  timelines = new Map();
  credentials = [credential("crd_01jd0000000000000000000001", "ses_01jd0000000000000000000009")];
  providers = providers();
  /** @type {{ status: string, version: string, checks: { name: string, status: string, detail: string }[], isolation: unknown }} */
  health = {
    status: "ok",
    version: "0.1.0",
    checks: [{ name: "store", status: "ok", detail: "SQLite answers." }],
    isolation: null,
  };
  /** The unused login tokens. */
  login_tokens = new Set(["fresh-token"]);
  /** The owner that a used link names. @type {string | null} */
  link_owner = null;
  /** The ids of the sessions and credentials that other callers than the pages' user own. */
  of_others = new Set();
  /** Who is signed in. @type {import("../../src/api.ts").CurrentCaller} */
  caller = { role: "operator", name: "operator", session: null, sign_in: "link" };
  /** Whether a lease needs a fresh sign-in. */
  confirmation_required = false;
  /** Whether requests need no cookie. */
  anonymous_allowed = true;
  /** `false`: the events route answers 502 (a proxy that cannot stream). */
  events_enabled = true;
  /** The close codes and reasons of the next desktop connections, one for each. @type {[number, string][]} */
  desktop_rejections = [];
  /** The colour shift of the next machine's picture. */
  hue = 0;
  /** @type {{ method: string, path: string, body: any, headers: import("node:http").IncomingHttpHeaders }[]} */
  requests = [];
  /** @type {Set<Viewer>} */
  viewers = new Set();
  /** Whether the pages' user must agree, or has agreed. @type {"not_needed" | "required" | "given"} */
  consent = "not_needed";
  /** The idle time after a heartbeat, milliseconds. */
  idle_ms_max = 600_000;
  /** The delay of a start lets both clicks of a double click arrive before the response. */
  start_delay_ms = 150;
  /** Whether new sessions are rejected, because there is no capacity. */
  at_capacity = false;
  /** The browsers that are signed in. */
  browsers = signedInBrowsers();
  /** Called for each desktop connection. @type {(rfb: RfbServer, session: string) => void} */
  onDesktop = () => {};
  /** Connects to a real desktop, which then takes the place of the fake one. @type {(() => import("node:stream").Duplex) | null} */
  connectDesktop = null;
  /** The helpers of every session. @type {{ id: string, name: string, status: string, joined_at: string | null, last_seen_at: string | null, expires_at: string | null, address: null }[]} */
  helpers = [];
  /** The part for operators. */
  admin = new AdminApi(this);
  /** The text that was typed into terminals. */
  terminal_input = "";
  /** @type {{ cols: number, rows: number }[]} */
  terminal_sizes = [];
  /** @type {Set<{ id: string, response: import("node:http").ServerResponse }>} */
  #streams = new Set();
  #tickets = new Map();
  #idempotency_keys = new Map();
  #session_count = 0;
  #websocket_server = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("binary") ? "binary" : false) });
  /** @type {import("node:http").Server | import("node:https").Server} */
  #http_server = createServer();

  /** Starts to listen and returns the origin. @param {{ key: string, cert: string } | undefined} [tls] */
  async listen(tls) {
    if (tls !== undefined) this.#http_server = createSecureServer(tls);
    this.#http_server.on("request", (request, response) => void this.#handle(request, response));
    this.#http_server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    await new Promise((done) => this.#http_server.listen(0, "127.0.0.1", () => done(undefined)));
    const address = this.#http_server.address();
    if (address === null || typeof address === "string") throw new Error("no address");
    return `${tls === undefined ? "http" : "https"}://127.0.0.1:${address.port}`;
  }

  async close() {
    for (const viewer of this.viewers) viewer.socket.terminate();
    for (const stream of this.#streams) stream.response.end();
    this.admin.breakStreams();
    this.#websocket_server.close();
    this.#http_server.closeAllConnections();
    await new Promise((done) => this.#http_server.close(() => done(undefined)));
  }

  /** Adds a session. @param {Partial<Session>} [part] */
  add(part = {}) {
    this.#session_count += 1;
    const session = newSession(this.#session_count, part);
    this.sessions.set(session.id, session);
    this.timelines.set(session.id, []);
    this.addEntry(session.id, "session_accepted", "The session was accepted.");
    this.admin.onChange(session);
    return session;
  }

  /** Changes a session and sends it to its pages. @param {string} id @param {Partial<Session>} part */
  change(id, part) {
    const changed = { .../** @type {Session} */ (this.sessions.get(id)), ...part };
    const session = { ...changed, for_person: part.for_person ?? forPerson(changed) };
    this.sessions.set(id, session);
    this.admin.onChange(session);
    for (const stream of this.#streams) {
      if (stream.id === id) stream.response.write(`event: session\ndata: ${JSON.stringify(session)}\n\n`);
    }
  }

  /** Changes the helpers and sends them to the pages. @param {FakeServer["helpers"]} helpers */
  changeHelpers(helpers) {
    this.helpers = helpers;
    for (const stream of this.#streams) stream.response.write(`event: helpers\ndata: ${JSON.stringify({ helpers })}\n\n`);
  }

  /** Adds a timeline entry and sends it to the session's pages. @param {string} id @param {string} kind @param {string} sentence @param {unknown} [data] @param {string} [at] */
  addEntry(id, kind, sentence, data = {}, at = new Date().toISOString()) {
    const entries = this.timelines.get(id) ?? [];
    const entry = { number: entries.length + 1, at, kind, sentence, data };
    entries.push(entry);
    for (const stream of this.#streams) if (stream.id === id) this.#sendEntry(stream.response, entry);
  }

  /** Closes all desktop connections. @param {number} code @param {string} reason */
  closeDesktops(code, reason) {
    for (const viewer of this.viewers) if (viewer.rfb) viewer.socket.close(code, reason);
  }

  /**
   * Ends the access of the pages' user, as a revocation or an expiry does: streams first, or desktops only.
   * @param {4411 | 4412 | 4414} close_code @param {{ streams: boolean }} options
   */
  endAccess(close_code, { streams }) {
    const code = { 4411: "caller_revoked", 4412: "caller_expired", 4414: "helper_ended" }[close_code];
    const sentence = "The token or cookie of this connection has ended.";
    this.anonymous_allowed = false;
    for (const stream of streams ? this.#streams : []) {
      stream.response.end(`event: closed\ndata: ${JSON.stringify({ code, sentence, remedy: "Ask for a new one.", for_person: "Your access has ended.", close_code })}\n\n`);
    }
    for (const viewer of this.viewers) viewer.socket.close(close_code, `${code}: ${sentence}`);
  }

  /** Breaks all event streams. */
  breakStreams() {
    for (const stream of this.#streams) stream.response.destroy();
  }

  /** Prints a text in all terminals. @param {string} text */
  writeTerminal(text) {
    for (const viewer of this.viewers) if (viewer.rfb === null) viewer.socket.send(Buffer.from(text));
  }

  /** The newest desktop connection. */
  desktop() {
    return [...this.viewers].findLast((viewer) => viewer.rfb)?.rfb ?? null;
  }

  /** @param {import("node:http").ServerResponse} response @param {{ number: number }} entry */
  #sendEntry(response, entry) {
    response.write(`id: ${entry.number}\nevent: timeline\ndata: ${JSON.stringify(entry)}\n\n`);
  }

  /**
   * @param {import("node:http").ServerResponse} response @param {number} status @param {unknown} [body]
   * @param {Record<string, string>} [headers]
   */
  #respond(response, status, body, headers = {}) {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  }

  /**
   * @param {import("node:http").ServerResponse} response @param {number} status @param {string} code
   * @param {string} sentence @param {string} remedy @param {number} close_code @param {{ owner?: string, for_person?: string }} [part]
   */
  #respondProblem(response, status, code, sentence, remedy, close_code, part = {}) {
    this.#respond(response, status, { code, sentence, remedy, for_person: PROBLEMS_FOR_PERSON[code] ?? "This did not work. Please try again.", close_code, ...part });
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async #handle(request, response) {
    const url = new URL(request.url ?? "/", "http://fake-server");
    const method = request.method ?? "GET";
    if (method === "GET" && (await servePage(url.pathname, request, response))) return;
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? null : JSON.parse(text);
    this.requests.push({ method, path: url.pathname, body, headers: request.headers });
    if (method !== "GET" && !/^[0-9a-f]{64}$/.test(String(request.headers["x-anteroom"]))) {
      this.#respondProblem(response, 403, "cross_origin", "The request comes from a page of another site.", "Open Anteroom's page directly.", 4403);
      return;
    }
    if (url.pathname === "/health") return this.#respond(response, 200, this.health);
    if (url.pathname === "/api/login") return this.#login(response, body.login_token);
    if (!this.anonymous_allowed && !(request.headers.cookie ?? "").includes("anteroom=in")) {
      this.#respondProblem(response, 401, "unauthenticated", "No valid token, cookie or ticket was sent.", "Open the link that `anteroom serve` printed, or send an API token.", 4401);
      return;
    }
    if (this.admin.handle(method, url, body, request, response)) return;
    this.#handleApi(method, url, body, request, response);
  }

  /** @param {import("node:http").ServerResponse} response @param {string} login_token */
  #login(response, login_token) {
    if (!this.login_tokens.delete(login_token)) {
      const named = this.link_owner === null ? {} : { owner: this.link_owner, for_person: `This link was used before or has expired. Go back to ${this.link_owner} and start again.` };
      this.#respondProblem(response, 401, "ticket_used", "This link or ticket was used before or has expired.", "Ask for a new one.", 4401, named);
      return;
    }
    this.#respond(response, 204, undefined, { "Set-Cookie": "anteroom=in; HttpOnly; SameSite=Strict; Path=/" });
  }

  /**
   * @param {string} method @param {URL} url @param {any} body
   * @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
   */
  #handleApi(method, url, body, request, response) {
    const path = url.pathname;
    const caller = url.searchParams.get("caller");
    if (path === "/api/me") return this.#respond(response, 200, this.caller);
    if (path === "/api/oidc") return this.#respond(response, 200, { issuer: null, end_session_url: null });
    if (path === "/api/browsers") return this.#respond(response, 200, { browsers: this.browsers });
    if (path === "/api/logout") {
      this.anonymous_allowed = false;
      return this.#respond(response, 204, undefined, { "Set-Cookie": "anteroom=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0" });
    }
    const browserId = /^\/api\/browsers\/([^/]+)$/.exec(path)?.[1];
    if (browserId !== undefined && method === "DELETE") {
      this.browsers = this.browsers.filter((one) => one.id !== browserId);
      return this.#respond(response, 204);
    }
    if (path === "/api/providers") return this.#respond(response, 200, { providers: this.providers });
    if (path === "/api/sessions") return this.#respond(response, 200, { sessions: [...this.sessions.values()].filter((one) => caller === null || !this.of_others.has(one.id)).reverse(), verdicts: {}, next_cursor: null, total: null });
    if (path === "/api/credentials") return this.#respond(response, 200, { credentials: this.credentials.filter((one) => caller === null || !this.of_others.has(one.id)), next_cursor: null, total: null });
    if (path === "/api/auth/start") return this.#startSession(response, body);
    const credentialId = /^\/api\/credentials\/([^/]+)$/.exec(path)?.[1];
    if (credentialId !== undefined && method === "DELETE") {
      this.credentials = this.credentials.filter((one) => one.id !== credentialId);
      return this.#respond(response, 204);
    }
    const leased = /^\/api\/credentials\/([^/]+)\/lease$/.exec(path)?.[1];
    if (leased !== undefined) return this.#lease(response, leased);
    const used_credential = /^\/api\/credentials\/([^/]+)\/use$/.exec(path)?.[1];
    if (used_credential !== undefined) {
      const session = this.add({ status: "vm_creating", credential_use: { purpose: body.purpose, credential: used_credential, exit_code: null, waits_for: null } });
      return this.#respond(response, 202, { session, viewer_url: "/unused" });
    }
    const [, id = "", rest = ""] = /^\/api\/auth\/session\/([^/]+)(\/.*)?$/.exec(path) ?? [];
    const session = this.sessions.get(id);
    if (session === undefined) {
      this.#respondProblem(response, 404, "unknown_session", "There is no such session.", "Start a new one.", 4404);
      return;
    }
    this.#handleSession(method, rest, body, session, request, response);
  }

  /** @param {import("node:http").ServerResponse} response @param {string} id */
  #lease(response, id) {
    if (this.confirmation_required) {
      const remedy = "Sign in again, with a new link or with your identity provider, and repeat it within 5 minutes.";
      this.#respondProblem(response, 403, "confirmation_required", "This needs a fresh sign-in in this browser.", remedy, 4403);
      return;
    }
    const found = this.credentials.find((one) => one.id === id);
    const files = found?.files.map(({ path, mode }) => ({ path, mode, content: Buffer.from(`content of ${path} é`).toString("base64") }));
    if (found?.policy === "deliver_once") this.credentials = this.credentials.filter((one) => one !== found);
    this.#respond(response, 200, { credential: found, files });
  }

  /** @param {import("node:http").ServerResponse} response @param {{ provider: string, idempotency_key: string, renews?: string }} body */
  #startSession(response, body) {
    if (this.at_capacity) {
      this.#respondProblem(response, 503, "no_capacity", "There is no capacity for another machine.", "Try again later.", 4503);
      return;
    }
    const existing = this.#idempotency_keys.get(body.idempotency_key);
    const provider = this.providers.find((one) => one.id === body.provider);
    const session =
      existing ??
      this.add({ provider: body.provider, provider_name: provider?.name ?? body.provider, lanes: provider?.lanes ?? [], renews: body.renews ?? null });
    this.#idempotency_keys.set(body.idempotency_key, session);
    setTimeout(() => this.#respond(response, 202, { session, viewer_url: "/unused" }), this.start_delay_ms);
  }

  /**
   * @param {string} method @param {string} rest @param {any} body @param {Session} session
   * @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
   */
  #handleSession(method, rest, body, session, request, response) {
    const helper = /^\/helpers\/([^/]+)$/.exec(rest)?.[1];
    if (helper !== undefined && method === "DELETE") {
      this.changeHelpers(this.helpers.filter((one) => one.id !== helper));
      return this.#respond(response, 204);
    }
    switch (`${method} ${rest}`) {
      case "GET ":
        return this.#respond(response, 200, session);
      case "GET /events":
        return this.#sendEvents(request, response, session);
      case "GET /credentials":
        return this.#respond(response, 200, { credentials: session.credential ? [session.credential] : [], next_cursor: null, total: null });
      case "POST /consent":
        this.consent = "given";
        return this.#respond(response, 200, this.#consentView(session));
      case "GET /consent":
        return this.#respond(response, 200, this.#consentView(session));
      case "POST /ticket": {
        if (this.consent === "required") {
          return this.#respondProblem(response, 403, "consent_required", "You have not agreed to this sign-in yet.", "Open the session's page.", 4403);
        }
        const ticket = `t${Math.random().toString(36).slice(2)}`;
        this.#tickets.set(ticket, { session: session.id, purpose: body.purpose });
        return this.#respond(response, 200, { ticket, expires_in_s: 30 });
      }
      case "POST /cancel":
        this.change(session.id, { status: "cancelled", reason: { code: "cancelled", sentence: "The session was cancelled." }, ended_at: new Date().toISOString() });
        return this.#respond(response, 200, this.sessions.get(session.id));
      case "POST /invitations":
        return this.#respond(response, 200, { url: `https://anteroom.example/dashboard/remote-cli/auth?session=${session.id}&view=1#login_token=for-${body.name}`, expires_in_s: 900 });
      case "POST /heartbeat":
        this.change(session.id, { idle_deadline_at: new Date(Date.now() + this.idle_ms_max).toISOString(), for_person: session.for_person });
        return this.#respond(response, 200, this.sessions.get(session.id));
      case "POST /proxy-fault":
      case "POST /hosts":
      case "POST /restart":
      case "POST /open-url":
      case "POST /type":
        return this.#respond(response, 204);
      case "POST /paste":
        return this.#paste(response, session, body.text);
      case "POST /method":
        this.change(session.id, { method: body.method, sign_in: signIn() });
        return this.#respond(response, 204);
      default:
        return this.#respondProblem(response, 404, "path_not_found", "There is nothing at this path.", "See /openapi.json for the API.", 4404);
    }
  }

  /** @param {Session} session */
  #consentView(session) {
    const { provider_name, policy, return_host } = session;
    const owner_name = ownerForPerson(session);
    const owner = owner_name ?? "The person who runs this page";
    const after = return_host === null ? "" : ` After that you return to ${return_host}.`;
    const sentence = `${owner} asks you to sign in to ${provider_name}. ${owner} keeps your sign-in, encrypted, and can use ${provider_name} as you until one of you removes it.${after}`;
    return { status: this.consent, owner_name, provider_name, policy, return_host, sentence };
  }

  /** @param {import("node:http").ServerResponse} response @param {Session} session @param {string} text */
  #paste(response, session, text) {
    if (text.startsWith("http://localhost:")) return this.#respond(response, 200, { interpreted_as: "callback", status: 200 });
    const id = session.sign_in.prompt?.id;
    if (id !== undefined && text === "wrong") {
      const detail = "It looks like CODE#STATE.";
      return this.#respond(response, 422, { code: "wrong_answer", sentence: "This is not what the tool asks for; it was not passed on.", detail, remedy: "Compare it with the expected form in the detail; a code can have several lines.", for_person: "This is not what the tool asks for, so it was not sent. Compare it with the note at the field; a code can have several lines.", close_code: 4422 });
    }
    return this.#respond(response, 200, id === undefined ? { interpreted_as: "terminal" } : { interpreted_as: "prompt", id });
  }

  /**
   * @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
   * @param {Session} session
   */
  #sendEvents(request, response, session) {
    const entries = this.timelines.get(session.id) ?? [];
    if (!(request.headers.accept ?? "").includes("text/event-stream")) return this.#respond(response, 200, { entries });
    if (!this.events_enabled) return this.#respondProblem(response, 502, "bad_gateway", "The proxy failed.", "Try again.", 4502);
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    response.write(`retry: 300\nevent: session\ndata: ${JSON.stringify(session)}\n\n`);
    response.write(`event: helpers\ndata: ${JSON.stringify({ helpers: this.helpers })}\n\n`);
    const after = Number(request.headers["last-event-id"] ?? 0);
    for (const entry of entries) if (entry.number > after) this.#sendEntry(response, entry);
    const stream = { id: session.id, response };
    this.#streams.add(stream);
    response.on("close", () => this.#streams.delete(stream));
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:stream").Duplex} socket @param {Buffer} head */
  #upgrade(request, socket, head) {
    const path = new URL(request.url ?? "/", "http://fake-server").pathname;
    const [, id = "", path_end = ""] = /^\/api\/auth\/session\/([^/]+)\/(novnc\/websock|terminal)$/.exec(path) ?? [];
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((one) => one.trim());
    const ticket = offered.find((one) => one.startsWith("ticket."))?.slice(7) ?? "";
    const purpose = path_end === "terminal" ? "terminal" : "desktop";
    this.#websocket_server.handleUpgrade(request, socket, head, (peer) => {
      const issued = this.#tickets.get(ticket);
      this.#tickets.delete(ticket);
      const rejection = purpose === "desktop" ? this.desktop_rejections.shift() : undefined;
      if (rejection !== undefined) return peer.close(rejection[0], rejection[1]);
      if (issued?.session !== id || issued?.purpose !== purpose) return peer.close(4401, "ticket_used: This link or ticket was used before or has expired.");
      this.#connect(peer, id, purpose);
    });
  }

  /** @param {import("ws").WebSocket} peer @param {string} session @param {import("node:stream").Duplex} desktop */
  #relayDesktop(peer, session, desktop) {
    const viewer = { socket: peer, rfb: null, session };
    this.viewers.add(viewer);
    peer.on("message", (bytes) => desktop.write(/** @type {Buffer} */ (bytes)));
    desktop.on("data", (bytes) => peer.send(bytes));
    desktop.on("error", () => peer.close(4502));
    peer.on("close", () => {
      this.viewers.delete(viewer);
      desktop.destroy();
    });
  }

  /** @param {import("ws").WebSocket} peer @param {string} session @param {string} purpose */
  #connect(peer, session, purpose) {
    if (purpose === "desktop" && this.connectDesktop !== null) return this.#relayDesktop(peer, session, this.connectDesktop());
    const rfb = purpose === "desktop" ? new RfbServer((bytes) => peer.send(bytes), { hue: this.hue }) : null;
    if (rfb !== null) this.onDesktop(rfb, session);
    const viewer = { socket: peer, rfb, session };
    this.viewers.add(viewer);
    peer.on("close", () => this.viewers.delete(viewer));
    if (rfb === null) peer.send(Buffer.from("\x1b[1mcodex login\x1b[0m\r\n\x1b[38;2;120;200;140mFollow the steps below\x1b[0m\r\n$ "));
    peer.on("message", (data, binary) => {
      const bytes = /** @type {Buffer} */ (data);
      if (rfb !== null) return rfb.receive(bytes);
      if (!binary) return void this.terminal_sizes.push(JSON.parse(bytes.toString()));
      this.terminal_input += bytes.toString();
      // Control characters are echoed as a terminal's line discipline does it.
      peer.send(Buffer.from(bytes.toString().replace(/[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]/g, (one) => `^${String.fromCharCode(one.charCodeAt(0) ^ 0x40)}`)));
    });
  }
}
