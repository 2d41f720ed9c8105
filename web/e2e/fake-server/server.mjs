// The API as the pages see it, with a memory and no machines: for the page-level tests only. A test drives it through
// its methods (`change`, `closeDesktops`, …) and looks at what the pages asked for (`calls`).

import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { readFile } from "node:fs/promises";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { RfbServer } from "./rfb.mjs";
import { credential, newSession, providers, signIn } from "./samples.mjs";

const DIST = join(dirname(fileURLToPath(import.meta.url)), "../../dist");

/** As the server sends it. */
export const POLICY =
  "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; " +
  "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

const TYPES = /** @type {Record<string, string>} */ ({
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
});

/** @typedef {import("./samples.mjs").Session} Session */
/** @typedef {{ socket: import("ws").WebSocket, rfb: RfbServer | null, session: string }} Viewer */

export class Standin {
  /** @type {Map<string, Session>} */
  sessions = new Map();
  /** @type {Map<string, { number: number, at: string, kind: string, sentence: string, data: unknown }[]>} */
  timelines = new Map();
  credentials = [credential("crd_01jd0000000000000000000001", "ses_01jd0000000000000000000009")];
  providers = providers();
  health = { status: "ok", version: "0.1.0", checks: [{ name: "store", status: "ok", detail: "SQLite answers." }] };
  /** Passes that still work. */
  passes = new Set(["fresh-pass"]);
  /** Whether every caller counts as signed in. */
  open = true;
  /** `false`: the events route answers 502 (a proxy that cannot stream). */
  streams = true;
  /** The next desktop connections are closed with these codes, first come first served. @type {[number, string][]} */
  refuse = [];
  /** Hue of the next machine's picture. */
  hue = 0;
  /** @type {{ method: string, path: string, body: any, headers: import("node:http").IncomingHttpHeaders }[]} */
  calls = [];
  /** @type {Set<Viewer>} */
  viewers = new Set();
  /** The next starts are refused for want of room. */
  full = false;
  /** Called for each desktop that was reached. @type {(rfb: RfbServer, session: string) => void} */
  onDesktop = () => {};
  /** Bytes that terminals sent. */
  typed = "";
  /** @type {{ cols: number, rows: number }[]} */
  sizes = [];
  /** @type {Set<{ id: string, response: import("node:http").ServerResponse }>} */
  #streams = new Set();
  #tickets = new Map();
  #keys = new Map();
  #count = 0;
  #sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("binary") ? "binary" : false) });
  /** @type {import("node:http").Server | import("node:https").Server} */
  #http = createServer();

  /** Listens; returns the origin. @param {{ key: string, cert: string } | undefined} [tls] */
  async listen(tls) {
    if (tls !== undefined) this.#http = createSecureServer(tls);
    this.#http.on("request", (request, response) => void this.#serve(request, response));
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    await new Promise((done) => this.#http.listen(0, "127.0.0.1", () => done(undefined)));
    const address = this.#http.address();
    if (address === null || typeof address === "string") throw new Error("no address");
    return `${tls === undefined ? "http" : "https"}://127.0.0.1:${address.port}`;
  }

  async close() {
    for (const viewer of this.viewers) viewer.socket.terminate();
    for (const stream of this.#streams) stream.response.end();
    this.#sockets.close();
    this.#http.closeAllConnections();
    await new Promise((done) => this.#http.close(() => done(undefined)));
  }

  /** A session that exists already. @param {Partial<Session>} [part] */
  add(part = {}) {
    this.#count += 1;
    const session = newSession(this.#count, part);
    this.sessions.set(session.id, session);
    this.timelines.set(session.id, []);
    this.tell(session.id, "session_accepted", "The session was accepted.");
    return session;
  }

  /** Changes a session and tells its pages. @param {string} id @param {Partial<Session>} part */
  change(id, part) {
    const session = { .../** @type {Session} */ (this.sessions.get(id)), ...part };
    this.sessions.set(id, session);
    for (const stream of this.#streams) {
      if (stream.id === id) stream.response.write(`event: session\ndata: ${JSON.stringify(session)}\n\n`);
    }
  }

  /** A timeline entry. @param {string} id @param {string} kind @param {string} sentence @param {unknown} [data] */
  tell(id, kind, sentence, data = {}) {
    const entries = this.timelines.get(id) ?? [];
    const entry = { number: entries.length + 1, at: new Date().toISOString(), kind, sentence, data };
    entries.push(entry);
    for (const stream of this.#streams) if (stream.id === id) this.#sendEntry(stream.response, entry);
  }

  /** Closes every desktop with a code. @param {number} code @param {string} reason */
  closeDesktops(code, reason) {
    for (const viewer of this.viewers) if (viewer.rfb) viewer.socket.close(code, reason);
  }

  /** Breaks every event stream. */
  breakStreams() {
    for (const stream of this.#streams) stream.response.destroy();
  }

  /** The desktop that a page sees now. */
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
  #answer(response, status, body, headers = {}) {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  }

  /**
   * @param {import("node:http").ServerResponse} response @param {number} status @param {string} code
   * @param {string} sentence @param {string} remedy @param {number} close_code
   */
  #refuse(response, status, code, sentence, remedy, close_code) {
    this.#answer(response, status, { code, sentence, remedy, close_code });
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async #serve(request, response) {
    const url = new URL(request.url ?? "/", "http://fake-server");
    const method = request.method ?? "GET";
    if (method === "GET" && (await this.#page(url.pathname, response))) return;
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? null : JSON.parse(text);
    this.calls.push({ method, path: url.pathname, body, headers: request.headers });
    if (method !== "GET" && request.headers["x-anteroom"] !== "1") {
      this.#refuse(response, 403, "cross_origin", "The request comes from a page of another site.", "Open Anteroom's page directly.", 4403);
      return;
    }
    if (url.pathname === "/health") return this.#answer(response, 200, this.health);
    if (url.pathname === "/api/login") return this.#enter(response, body.login_token);
    if (!this.open && !(request.headers.cookie ?? "").includes("anteroom=in")) {
      this.#refuse(response, 401, "unauthenticated", "No valid token, cookie or ticket was sent.", "Open the link that `anteroom serve` printed, or send an API token.", 4401);
      return;
    }
    this.#api(method, url.pathname, body, request, response);
  }

  /** @param {string} path @param {import("node:http").ServerResponse} response */
  async #page(path, response) {
    const shell = ["/", "/login", "/dashboard/remote-cli", "/dashboard/remote-cli/auth"].includes(path);
    const bare = /^\/api\/auth\/session\/[^/]+\/novnc$/.test(path);
    const name = shell ? "index.html" : bare ? "desktop.html" : path.startsWith("/assets/") ? normalize(path).slice(1) : null;
    if (name === null) return false;
    const bytes = await readFile(join(DIST, name)).catch(() => null);
    response.writeHead(bytes === null ? 404 : 200, {
      "Content-Type": TYPES[extname(name)] ?? "application/octet-stream",
      "Content-Security-Policy": POLICY,
      "X-Content-Type-Options": "nosniff",
    });
    response.end(bytes ?? "");
    return true;
  }

  /** @param {import("node:http").ServerResponse} response @param {string} pass */
  #enter(response, pass) {
    if (!this.passes.delete(pass)) {
      this.#refuse(response, 401, "ticket_used", "This link or ticket was used before or has expired.", "Ask for a new one.", 4401);
      return;
    }
    this.#answer(response, 204, undefined, { "Set-Cookie": "anteroom=in; HttpOnly; SameSite=Strict; Path=/" });
  }

  /**
   * @param {string} method @param {string} path @param {any} body
   * @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
   */
  #api(method, path, body, request, response) {
    if (path === "/api/me") return this.#answer(response, 200, { role: "operator", session: null });
    if (path === "/api/providers") return this.#answer(response, 200, { providers: this.providers });
    if (path === "/api/sessions") return this.#answer(response, 200, { sessions: [...this.sessions.values()].reverse() });
    if (path === "/api/credentials") return this.#answer(response, 200, { credentials: this.credentials });
    if (path === "/api/auth/start") return this.#start(response, body);
    const credentialId = /^\/api\/credentials\/([^/]+)$/.exec(path)?.[1];
    if (credentialId !== undefined && method === "DELETE") {
      this.credentials = this.credentials.filter((one) => one.id !== credentialId);
      return this.#answer(response, 204);
    }
    const used = /^\/api\/credentials\/([^/]+)\/use$/.exec(path)?.[1];
    if (used !== undefined) {
      const session = this.add({ status: "vm_creating", credential_use: { purpose: body.purpose, credential: used, exit_code: null } });
      return this.#answer(response, 202, { session, viewer_url: "/unused" });
    }
    const [, id = "", rest = ""] = /^\/api\/auth\/session\/([^/]+)(\/.*)?$/.exec(path) ?? [];
    const session = this.sessions.get(id);
    if (session === undefined) {
      this.#refuse(response, 404, "unknown_session", "There is no such session.", "Start a new one.", 4404);
      return;
    }
    this.#sessionCall(method, rest, body, session, request, response);
  }

  /** @param {import("node:http").ServerResponse} response @param {{ provider: string, idempotency_key: string, renews?: string }} body */
  #start(response, body) {
    if (this.full) {
      this.#refuse(response, 503, "no_capacity", "There is no capacity for another machine.", "Try again later.", 4503);
      return;
    }
    const known = this.#keys.get(body.idempotency_key);
    const provider = this.providers.find((one) => one.id === body.provider);
    const session =
      known ??
      this.add({ provider: body.provider, provider_name: provider?.name ?? body.provider, lanes: provider?.lanes ?? [], renews: body.renews ?? null });
    this.#keys.set(body.idempotency_key, session);
    // Slow enough that a double click arrives as two clicks.
    setTimeout(() => this.#answer(response, 202, { session, viewer_url: "/unused" }), 150);
  }

  /**
   * @param {string} method @param {string} rest @param {any} body @param {Session} session
   * @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
   */
  #sessionCall(method, rest, body, session, request, response) {
    switch (`${method} ${rest}`) {
      case "GET ":
        return this.#answer(response, 200, session);
      case "GET /events":
        return this.#events(request, response, session);
      case "GET /credentials":
        return this.#answer(response, 200, { credentials: session.credential ? [session.credential] : [] });
      case "POST /ticket": {
        const ticket = `t${Math.random().toString(36).slice(2)}`;
        this.#tickets.set(ticket, { session: session.id, purpose: body.purpose });
        return this.#answer(response, 200, { ticket, expires_in_s: 30 });
      }
      case "POST /cancel":
        this.change(session.id, { status: "cancelled", reason: { code: "cancelled", sentence: "The session was cancelled." }, ended_at: new Date().toISOString() });
        return this.#answer(response, 200, this.sessions.get(session.id));
      case "POST /heartbeat":
      case "POST /restart":
      case "POST /open-url":
      case "POST /type":
        return this.#answer(response, 204);
      case "POST /paste":
        return this.#paste(response, session, body.text);
      case "POST /method":
        this.change(session.id, { method: body.method, sign_in: signIn() });
        return this.#answer(response, 204);
      default:
        return this.#refuse(response, 404, "path_not_found", "There is nothing at this path.", "See /openapi.json for the API.", 4404);
    }
  }

  /** @param {import("node:http").ServerResponse} response @param {Session} session @param {string} text */
  #paste(response, session, text) {
    if (text.startsWith("http://localhost:")) return this.#answer(response, 200, { interpreted_as: "callback", status: 200 });
    const id = session.sign_in.prompt?.id;
    if (id !== undefined && text === "wrong") {
      const detail = "It looks like CODE#STATE.";
      return this.#answer(response, 422, { code: "wrong_answer", sentence: "This is not what the tool asks for; it was not passed on.", detail, remedy: "Copy it again, whole.", close_code: 4422 });
    }
    return this.#answer(response, 200, id === undefined ? { interpreted_as: "terminal" } : { interpreted_as: "prompt", id });
  }

  /**
   * @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
   * @param {Session} session
   */
  #events(request, response, session) {
    const entries = this.timelines.get(session.id) ?? [];
    if (!(request.headers.accept ?? "").includes("text/event-stream")) return this.#answer(response, 200, { entries });
    if (!this.streams) return this.#refuse(response, 502, "bad_gateway", "The proxy failed.", "Try again.", 4502);
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    response.write(`retry: 300\nevent: session\ndata: ${JSON.stringify(session)}\n\n`);
    const after = Number(request.headers["last-event-id"] ?? 0);
    for (const entry of entries) if (entry.number > after) this.#sendEntry(response, entry);
    const stream = { id: session.id, response };
    this.#streams.add(stream);
    response.on("close", () => this.#streams.delete(stream));
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:stream").Duplex} socket @param {Buffer} head */
  #upgrade(request, socket, head) {
    const path = new URL(request.url ?? "/", "http://fake-server").pathname;
    const [, id = "", kind = ""] = /^\/api\/auth\/session\/([^/]+)\/(novnc\/websock|terminal)$/.exec(path) ?? [];
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((one) => one.trim());
    const ticket = offered.find((one) => one.startsWith("ticket."))?.slice(7) ?? "";
    const purpose = kind === "terminal" ? "terminal" : "desktop";
    this.#sockets.handleUpgrade(request, socket, head, (peer) => {
      const granted = this.#tickets.get(ticket);
      this.#tickets.delete(ticket);
      const refusal = purpose === "desktop" ? this.refuse.shift() : undefined;
      if (refusal !== undefined) return peer.close(refusal[0], refusal[1]);
      if (granted?.session !== id || granted?.purpose !== purpose) return peer.close(4401, "ticket_used: This link or ticket was used before or has expired.");
      this.#admit(peer, id, purpose);
    });
  }

  /** @param {import("ws").WebSocket} peer @param {string} session @param {string} purpose */
  #admit(peer, session, purpose) {
    const rfb = purpose === "desktop" ? new RfbServer((bytes) => peer.send(bytes), { hue: this.hue }) : null;
    if (rfb !== null) this.onDesktop(rfb, session);
    const viewer = { socket: peer, rfb, session };
    this.viewers.add(viewer);
    peer.on("close", () => this.viewers.delete(viewer));
    if (rfb === null) peer.send(Buffer.from("\x1b[1mcodex login\x1b[0m\r\n\x1b[38;2;120;200;140mFollow the steps below\x1b[0m\r\n$ "));
    peer.on("message", (data, binary) => {
      const bytes = /** @type {Buffer} */ (data);
      if (rfb !== null) return rfb.take(bytes);
      if (!binary) return void this.sizes.push(JSON.parse(bytes.toString()));
      this.typed += bytes.toString();
      peer.send(bytes);
    });
  }
}
