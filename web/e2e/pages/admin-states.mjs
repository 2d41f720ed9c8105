// The states of the operators' pages, for the tests of accessibility and for the pictures in docs/pages.

import { inSeconds } from "../fake-server/samples.mjs";

/** @typedef {import("./scene.mjs").Scene} Scene */

const REASONS = /** @type {const} */ ({
  failed: { code: "machine_failed", sentence: "The machine ended: killed by signal 9." },
  expired: { code: "idle_timeout", sentence: "The session was idle for too long." },
  cancelled: { code: "cancelled", sentence: "The session was cancelled." },
});

/** Adds sessions in many states; returns the id of a live one. @param {Scene} scene */
export function addSessions({ fakeServer }) {
  const ended_at = inSeconds(-60);
  for (const [number, status] of /** @type {const} */ (["completed", "failed", "completed", "expired", "cancelled", "completed"]).entries()) {
    fakeServer.add({ status, user_id: `ada-${number}`, ended_at, reason: status === "completed" ? null : REASONS[status], created_at: inSeconds(-3_000 + 300 * number) });
  }
  fakeServer.add({ status: "vm_creating", queue_position: 1, user_id: "grace", created_at: inSeconds(-34), owner_name: "Initech" });
  fakeServer.add({ status: "vm_creating", stage: "display", user_id: "linus", provider: "demo", provider_name: "Demo" });
  const { id } = fakeServer.add({ status: "authenticating", user_id: "zoë", viewers: 2, generation: 2, created_at: inSeconds(-140) });
  fakeServer.credentials = fakeServer.credentials.map((one) => ({ ...one, expires_at: inSeconds(3 * 86_400), health: "expiring" }));
  fakeServer.health = { ...fakeServer.health, checks: [...fakeServer.health.checks, { name: "memory", status: "degraded", detail: "2 GiB are free." }] };
  fakeServer.timelines.set(id, []);
  for (const [kind, sentence, at_s, data] of TIMELINE) fakeServer.addEntry(id, kind, sentence, data, inSeconds(at_s));
  return id;
}

const TIMINGS = { timings: { spawned_ms: 30, channel_ms: 126, agent_info_ms: 138, ready_ms: 279 } };

/** @type {[kind: string, sentence: string, at_s: number, data: unknown][]} */
const TIMELINE = [
  ["accepted", "The session was accepted.", -140, {}],
  ["machine_requested", "Machine 1 was requested.", -139.9, { machine: "mac_01jd0000000000000000000002", generation: 1 }],
  ["machine_ready", "The machine is ready.", -139.5, TIMINGS],
  ["cli_started", "Codex was started.", -139.4, {}],
  ["sign_in_url", "The tool shows an address.", -137, {}],
];

/** A cluster with a host in each state. @returns {import("../../src/api.ts").Schemas["HostList"]} */
export function clusterOfFour() {
  /** @param {number} number @param {string} name @param {Partial<import("../../src/api.ts").Schemas["HostView"]>} part */
  const host = (number, name, part) => ({
    id: `hst_01jd${String(number).padStart(22, "0")}`,
    name,
    state: /** @type {const} */ ("answers"),
    draining: false,
    incarnation: 1,
    joined_at: inSeconds(-86_400),
    heartbeat_at: inSeconds(-1),
    labels: {},
    sessions: 3,
    machines: 3,
    machines_max: 10,
    version: "0.1.0",
    ...part,
  });
  const unknown = { machines: null, machines_max: null, version: null };
  return {
    cluster: "production",
    own: host(1, "", {}).id,
    hosts: [
      host(1, "host-1", {}),
      host(2, "host-2", { draining: true, sessions: 1, machines: 1 }),
      host(3, "host-3", { ...unknown, state: "silent", heartbeat_at: inSeconds(-9) }),
      host(4, "host-4", { ...unknown, state: "fenced", fenced: "host-1", sessions: 0, heartbeat_at: null }),
    ],
  };
}

/** Opens an operators' page. @param {Scene} scene @param {string} path @param {string} shows */
async function open({ page, base }, path, shows) {
  await page.goto(`${base}/admin${path}`);
  await page.waitForSelector(shows);
}

/** Each opens a page and waits for its state. @type {Record<string, (scene: Scene, id: string) => Promise<unknown>>} */
export const ADMIN_STATES = {
  overview: async (scene) => {
    await open(scene, "", "tr[data-stage=total]");
    await scene.page.waitForSelector(".chart canvas");
    await scene.page.waitForSelector("tr[data-session]");
  },
  sessions: (scene) => open(scene, "/sessions", "tr[data-session]"),
  "sessions-none": (scene) => open(scene, "/sessions?text=nothing", ".empty"),
  "sessions-stop": async (scene, id) => {
    await open(scene, "/sessions?state=active", `tr[data-session="${id}"]`);
    await scene.page.click(`tr[data-session="${id}"] button`);
    await scene.page.waitForSelector("dialog[open]");
  },
  "sessions-stop-rejected": async (scene, id) => {
    scene.fakeServer.admin.rejects_with = "internal";
    await open(scene, "/sessions?state=active", `tr[data-session="${id}"]`);
    await scene.page.click(`tr[data-session="${id}"] button`);
    await scene.page.click("dialog button.danger");
    await scene.page.waitForSelector(".row-problem [data-problem=internal]");
  },
  session: async (scene, id) => {
    await open(scene, `/sessions/${id}`, "p[data-verdict]");
    await scene.page.click(".deeds summary");
    await scene.page.waitForSelector("tr[data-action]");
    await scene.page.click(".log summary");
    await scene.page.waitForSelector(".log li");
  },
  "session-link": async (scene, id) => {
    await open(scene, `/sessions/${id}`, "p[data-verdict]");
    await scene.page.click("[data-action=link]");
    await scene.page.click("dialog button.danger");
    await scene.page.waitForSelector("[data-link]");
  },
  "session-unknown": (scene) => open(scene, "/sessions/ses_01jd0000000000000000000077", "[data-problem=unknown_session]"),
  connections: (scene) => open(scene, "/connections", "tr[data-credential]"),
  machines: (scene) => open(scene, "/machines", "tr[data-machine]"),
  "machines-of-hosts": (scene) => {
    scene.fakeServer.admin.cluster = clusterOfFour();
    return open(scene, "/machines", "section[aria-labelledby=cluster-hosts] tr[data-host]");
  },
  hosts: async (scene) => {
    await open(scene, "/hosts", "[data-host]");
    await scene.page.click("[data-host] summary");
  },
  callers: (scene) => open(scene, "/callers", "tr[data-caller]"),
  "token-created": async (scene) => {
    await open(scene, "/callers", "tr[data-caller]");
    await scene.page.click("text=New token");
    await scene.page.fill("[name=name]", "reports");
    await scene.page.click("form.fields button[type=submit]");
    await scene.page.waitForSelector("[data-created]");
  },
  "token-rejected": async (scene) => {
    scene.fakeServer.admin.rejects_with = "confirmation_required";
    await open(scene, "/callers", "tr[data-caller]");
    await scene.page.click("tr[data-caller] button:has-text('Rotate')");
    await scene.page.click("form.fields button[type=submit]");
    await scene.page.waitForSelector("[data-problem=confirmation_required]");
  },
  audit: async (scene) => {
    await open(scene, "/audit", "tr[data-action]");
    await scene.page.click("text=Verify the trail");
    await scene.page.waitForSelector("[data-intact]");
  },
  webhook: (scene) => open(scene, "/webhook", "tr[data-message]"),
  "webhook-none": async (scene) => {
    scene.fakeServer.admin.webhook_url = null;
    await open(scene, "/webhook", ".empty");
  },
  auditor: async (scene) => {
    await scene.page.route("**/api/me", (route) => route.fulfill({ json: { role: "auditor", name: "Zoë", session: null, sign_in: "oidc" } }));
    await open(scene, "", "tr[data-action]");
  },
  "not-for-you": async (scene) => {
    await scene.page.route("**/api/me", (route) => route.fulfill({ json: { role: "user", name: "Zoë", session: null, sign_in: "oidc" } }));
    await open(scene, "", "main h1");
  },
  nothing: (scene) => open(scene, "/nowhere", "main h1"),
};
