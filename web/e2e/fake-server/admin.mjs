// The operators' part of the fake API: sums and lists over the fake server's sessions, tokens, and the event stream of all sessions.

import { inSeconds } from "./samples.mjs";

/** @typedef {import("./server.mjs").FakeServer} FakeServer */
/** @typedef {import("./samples.mjs").Session} Session */
/** @typedef {import("../../src/api.ts").Schemas} Schemas */

const ENDED = new Set(["completed", "failed", "cancelled", "expired"]);
const HEADERS = { "Content-Type": "application/json" };

/** @param {number} number @param {Partial<Schemas["TokenView"]>} part @returns {Schemas["TokenView"]} */
function token(number, part) {
  return {
    id: `cal_01jd${String(number).padStart(22, "0")}`,
    kind: "api_token",
    role: "backend",
    name: "acme-backend",
    scopes: ["start", "read", "lease"],
    created_at: inSeconds(-40 * 86_400),
    expires_at: null,
    last_used_at: inSeconds(-90),
    revoked_at: null,
    ...part,
  };
}

/** @type {Schemas["Isolation"]} */
const ISOLATION = { level: "strong", detail: "strong: KVM and all layers of confinement", layers_off: [] };

/** @param {number} seq @param {string} action @param {string} name @param {Partial<Schemas["AuditRecord"]>} part @returns {Schemas["AuditRecord"]} */
function record(seq, action, name, part = {}) {
  return /** @type {Schemas["AuditRecord"]} */ ({
    seq,
    at_ms: Date.now() - (40 - seq) * 7_000,
    action,
    outcome: "ok",
    actor: { kind: "token", id: "cal_01jd0000000000000000000001", role: "backend", name },
    peer: "192.0.2.7",
    session: null,
    credential: null,
    caller: null,
    user: null,
    request: null,
    count: 1,
    details: {},
    ...part,
  });
}

export class AdminApi {
  tokens = [
    token(1, {}),
    token(2, { name: "ci", expires_at: inSeconds(20 * 86_400), last_used_at: null }),
    token(3, { name: "auditor", role: "auditor", scopes: ["audit"], revoked_at: inSeconds(-86_400) }),
    token(4, { name: "operator", kind: "browser_cookie", role: "operator", scopes: ["start", "read", "operate", "metrics", "audit"], expires_at: inSeconds(43_200) }),
  ];
  /** @type {string | null} */
  webhook_url = "https://backend.example/anteroom";
  /** The hosts; a server that is alone has none. @type {Schemas["HostList"]} */
  cluster = { hosts: [] };
  /** The code of the problem with which the next change is rejected. @type {string | null} */
  rejects_with = null;
  /** @type {Set<import("node:http").ServerResponse>} */
  #streams = new Set();
  /** What the stream has sent. @type {{ id: number, data: string }[]} */
  #events = [];
  #secrets = 0;

  /** @param {FakeServer} server */
  constructor(server) {
    this.server = server;
  }

  /** A session began, changed or ended. @param {Session} session */
  onChange(session) {
    const event = { id: this.#events.length + 1, data: JSON.stringify(session) };
    this.#events.push(event);
    for (const stream of this.#streams) stream.write(`id: ${event.id}\nevent: session\ndata: ${event.data}\n\n`);
  }

  /** Breaks the event streams of all sessions. */
  breakStreams() {
    for (const stream of this.#streams) stream.destroy();
  }

  /**
   * Answers a request; `false`: it is not one of operators.
   * @param {string} method @param {URL} url @param {any} body
   * @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
   */
  handle(method, url, body, request, response) {
    const respond = (/** @type {unknown} */ value, status = 200) => {
      response.writeHead(status, HEADERS);
      response.end(JSON.stringify(value));
      return true;
    };
    const rejects = method === "POST" && this.rejects_with !== null && /^\/api\/(tokens|auth\/session\/[^/]+\/(cancel|restart|links|bundle))/.test(url.pathname);
    if (rejects) {
      const code = this.rejects_with;
      this.rejects_with = null;
      return respond({ code, sentence: "The request was rejected.", remedy: "Try again later.", for_person: "This did not work.", close_code: 4403 }, 403);
    }
    if (url.pathname === "/api/sessions/events") return this.#stream(request, response);
    const answer = this.#read(method, url) ?? this.#change(method, url.pathname, body) ?? this.#ofSession(method, url.pathname);
    return answer === undefined ? false : respond(answer, method === "POST" && /tokens$|rotate$/.test(url.pathname) ? 201 : 200);
  }

  /** @param {string} method @param {URL} url */
  #read(method, url) {
    if (method !== "GET") return undefined;
    switch (url.pathname) {
      case "/api/sessions":
        return url.searchParams.has("include") ? this.#list(url.searchParams) : undefined;
      case "/api/overview":
        return this.#overview();
      case "/api/egress/refused":
        return { hosts: refusedHosts(), is_partial: false };
      case "/api/machines":
        return this.#machines();
      case "/api/hosts":
        return this.cluster;
      case "/api/tokens":
        return { tokens: this.tokens, next_cursor: null };
      case "/api/audit":
        return { records: this.#records(url.searchParams), next_cursor: null };
      case "/api/audit/verification":
        return { intact: true, records: 38, findings: [] };
      case "/api/webhook":
        return this.#webhook();
      default:
        return undefined;
    }
  }

  /** @param {string} method @param {string} path @param {any} body */
  #change(method, path, body) {
    const [, id, deed] = /^\/api\/tokens(?:\/([^/]+)\/(rotate|revoke))?$/.exec(path) ?? [];
    if (method !== "POST" || !path.startsWith("/api/tokens")) return undefined;
    this.#secrets += 1;
    const secret = `tok_${"0123456789abcdef".repeat(2)}${this.#secrets}`;
    if (deed === "revoke") {
      this.tokens = this.tokens.map((one) => (one.id === id ? { ...one, revoked_at: new Date().toISOString() } : one));
      return { callers: 1, sessions: 0 };
    }
    const before = this.tokens.find((one) => one.id === id);
    const created = token(100 + this.#secrets, { name: before?.name ?? body.name, role: before?.role ?? body.role, created_at: inSeconds(0), last_used_at: null });
    this.tokens = [created, ...this.tokens];
    return { secret, token: created };
  }

  /** @param {string} method @param {string} path */
  #ofSession(method, path) {
    const [, id = "", rest = ""] = /^\/api\/auth\/session\/([^/]+)\/(\w+)$/.exec(path) ?? [];
    const session = this.server.sessions.get(id);
    if (session === undefined) return undefined;
    if (method === "POST" && rest === "links") return { url: `https://anteroom.example/dashboard/remote-cli/auth?session=${id}#login_token=for-the-person`, expires_in_s: 900 };
    if (method !== "GET") return undefined;
    if (rest === "diagnosis") return diagnosis(session);
    if (rest === "log") return { lines: [{ timestamp: inSeconds(-3), level: "INFO", message: "session accepted", session: id }, { timestamp: inSeconds(-1), level: "WARN", message: "connection refused by the egress gate", host: "tracker.example" }] };
    return undefined;
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response @returns {true} */
  #stream(request, response) {
    if (!this.server.events_enabled) {
      response.writeHead(502, HEADERS);
      response.end(JSON.stringify({ code: "bad_gateway", sentence: "The proxy failed.", remedy: "Try again.", for_person: "This did not work.", close_code: 4502 }));
      return true;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    const after = request.headers["last-event-id"];
    const newest = this.#events.length;
    response.write(after === undefined ? `retry: 300\nid: ${newest}\nevent: reset\ndata: {}\n\n` : "retry: 300\n\n");
    for (const event of this.#events.slice(after === undefined ? newest : Number(after))) {
      response.write(`id: ${event.id}\nevent: session\ndata: ${event.data}\n\n`);
    }
    this.#streams.add(response);
    response.on("close", () => this.#streams.delete(response));
    return true;
  }

  /** @returns {Session[]} newest first */
  #sessions() {
    return [...this.server.sessions.values()].reverse();
  }

  /** @param {URLSearchParams} query */
  #list(query) {
    const state = query.get("state");
    const text = query.get("text") ?? "";
    const is_wanted = (/** @type {Session} */ { status, id, user_id }) =>
      (state === null || state === status || (state === "active") === !ENDED.has(status) && ["active", "ended"].includes(state)) &&
      `${id} ${user_id}`.includes(text);
    const sessions = this.#sessions().filter(is_wanted);
    const ended = sessions.filter(({ status }) => ENDED.has(status));
    return { sessions, verdicts: Object.fromEntries(ended.map((one) => [one.id, verdictOf(one)])), next_cursor: null, total: null };
  }

  /** @returns {Schemas["Overview"]} */
  #overview() {
    const sessions = this.#sessions();
    const live = sessions.filter(({ status }) => !ENDED.has(status));
    const count = (/** @type {string} */ status) => sessions.filter((one) => one.status === status).length;
    const queued = live.filter(({ queue_position }) => queue_position !== null).length;
    const failed = sessions.filter(({ status }) => status === "failed" || status === "expired");
    return {
      at: inSeconds(0),
      since: inSeconds(-36_000),
      live: { sessions: live.length, queued, queue_wait_ms_max: queued === 0 ? null : 34_000, viewers: 2, by_status: [] },
      outcomes: { completed: count("completed"), failed: count("failed"), cancelled: count("cancelled"), expired: count("expired"), uses: 0 },
      causes: failed.map((one) => ({ verdict: verdictOf(one), remedy: "Allow the host or check the connection.", sessions: 1, newest: one.id })).slice(0, 1),
      starts: START_STAGES.map(([stage, p50_ms, p95_ms]) => ({ stage, starts: 41, p50_ms, p95_ms })),
      start_history: [0, 1, 2, 3, 4, 5].map((hour) => ({ at: inSeconds(hour * 3_600 - 21_600), starts: 7, p50_ms: 300 + 40 * (hour % 3), p95_ms: 600 + 90 * (hour % 4) })),
      host: { machines: live.length - queued, machines_max: 10, machine_memory_mib_max: 1_408, memory_total_mib: 32_768, memory_available_mib: 14_336, disk_free_mib: 81_920, shortage: null, isolation: ISOLATION },
      refused_hosts: refusedHosts(),
      is_partial: false,
    };
  }

  /** @returns {Schemas["MachineList"]} */
  #machines() {
    const live = this.#sessions().filter(({ status, queue_position }) => !ENDED.has(status) && queue_position === null);
    return {
      image: {
        digest: "8d3c1f0a9be2447c6f5d0e1b2a39485766f1e2d3c4b5a69788796a5b4c3d2e1f",
        built_at: inSeconds(-9 * 86_400),
        kernel_version: "6.12.48",
        files: [{ name: "vmlinux", bytes: 38_400_000 }, { name: "initramfs.cpio", bytes: 9_300_000 }, { name: "rootfs.squashfs", bytes: 712_000_000 }],
        kind: "Firecracker: KVM works here",
      },
      machines: live.map((one, index) => ({
        id: `mac_01jd${String(index + 1).padStart(22, "0")}`,
        state: index === 0 ? "starting" : "ready",
        stage: index === 0 ? "display" : null,
        requested_at: one.created_at,
        session: one.id,
        provider: one.provider,
        memory_mib: 612 + index,
      })),
    };
  }

  /** @param {URLSearchParams} query */
  #records(query) {
    const [first] = this.#sessions();
    const session = query.get("session") ?? first?.id ?? null;
    return [
      record(38, "desktop.open", "operator", { session, details: { view_only: "true" } }),
      record(37, "session.cancel", "acme-backend", { session }),
      record(36, "token.create", "operator", { caller: "cal_01jd0000000000000000000002" }),
      record(35, "login", "none", { outcome: "ticket_used", peer: "198.51.100.9", count: 4 }),
    ];
  }

  /** @returns {Schemas["WebhookReport"]} */
  #webhook() {
    const [first] = this.#sessions();
    const message = { id: "msg_01jd0000000000000000000001", kind: "session.ended", receiver: "default", session: first?.id ?? null, credential: null, created_at: inSeconds(-300) };
    const is_on = this.webhook_url !== null;
    const numbers = {
      delivered: 41,
      failed: 3,
      abandoned: 1,
      last_error: is_on ? { at: inSeconds(-20), message: message.id, why: "the receiver answered 503" } : null,
    };
    return {
      receivers: this.webhook_url === null ? [] : [{ name: "default", url: this.webhook_url, types: [], include_credential: false, ...numbers }],
      ...numbers,
      pending: is_on ? [{ ...message, due_at: inSeconds(40), attempts: 2, last_error: "the receiver answered 503" }] : [],
      abandoned_messages: is_on ? [{ ...message, id: "msg_01jd0000000000000000000002", abandoned_at: inSeconds(-200), attempts: 30, last_error: "no connection: connection refused" }] : [],
    };
  }
}

/** @type {[Schemas["StartStage"], number, number][]} */
const START_STAGES = [
  ["queue", 2, 14],
  ["process", 30, 62],
  ["channel", 96, 190],
  ["agent", 12, 31],
  ["desktop", 140, 260],
  ["claim", 21, 40],
  ["tool", 1_900, 3_400],
  ["total", 310, 620],
];

/** @param {Session} session @returns {Schemas["Verdict"]} */
function verdictOf({ status }) {
  return status === "completed" ? "completed" : status === "cancelled" ? "cancelled" : status === "failed" ? "machine_killed" : "egress_unreachable";
}

/** @returns {Schemas["RefusedHost"][]} */
function refusedHosts() {
  const common = { provider: "codex", sessions: 4, last_at: inSeconds(-600), newest: "ses_01jd0000000000000000000001", grantable: false };
  return [
    { ...common, host: "tracker.example", port: 443, reason: "egress_denied", descriptor_change: '[providers.codex]\negress = [\n  { host = "auth.openai.com", ports = [443] },\n  { host = "tracker.example", ports = [443] },\n]\n' },
    { ...common, host: "sso.company.example", port: 443, reason: "egress_denied", sessions: 1, descriptor_change: "[providers.codex]\n", grantable: true },
    { ...common, host: "auth.openai.com", port: 443, reason: "egress_unreachable", sessions: 1, descriptor_change: null },
  ];
}

/** @param {Session} session @returns {Schemas["Diagnosis"]} */
function diagnosis(session) {
  return /** @type {Schemas["Diagnosis"]} */ (
    /** @type {unknown} */ ({
      session: session.id,
      verdict: ENDED.has(session.status) ? verdictOf(session) : "waiting_for_user",
      sentence: "The tool waits for the person, who has not opened the link yet.",
      remedy: "Ask the person to open the link; a new one can be made here.",
      evidence: [{ number: 1, at: inSeconds(-5), sentence: "The session was accepted." }],
      chain: [
        { component: "machine", state: "ok", detail: "runs" },
        { component: "egress", state: "failed", detail: "one host was refused" },
        { component: "user", state: "waiting", detail: "has not opened the link" },
      ],
    })
  );
}
