// Sample bodies of the API for the fake server.

/** @typedef {import("../../src/api.ts").SessionView} Session */
/** @typedef {import("../../src/api.ts").Lane} Lane */

const STORE = "Your sign-in is kept encrypted for Acme until you or they remove it.";

/**
 * @param {string} id @param {string} name @param {string | null} version @param {Lane[]} lanes
 * @param {import("../../src/api.ts").MethodView[]} [others] further methods
 * @returns {import("../../src/api.ts").ProviderView}
 */
function provider(id, name, version, lanes, others = []) {
  const methods = [{ id: "default", label: others.length === 0 ? "" : "The default method", lanes }, ...others];
  return {
    id,
    name,
    version,
    lanes,
    policy: "store",
    policy_sentence: STORE,
    methods,
    available: version !== null,
    tested_version: version,
    unavailable: version === null ? "The machine image does not contain this tool." : null,
    without_account: id === "demo",
    can_check: id !== "gemini_cli",
    can_sign_out: id === "codex" || id === "claude_code",
    settings: [],
  };
}

/** The other sign-in methods of Codex. @type {import("../../src/api.ts").MethodView[]} */
export const CODEX_METHODS = [
  { id: "browser", label: "In the remote browser", lanes: ["desktop", "link", "terminal"] },
  { id: "api_key", label: "With an API key", lanes: ["terminal"] },
];

/** @returns {import("../../src/api.ts").ProviderView[]} */
export function providers() {
  return [
    provider("codex", "Codex", "0.171.0", ["device_code", "desktop", "terminal"], CODEX_METHODS),
    provider("claude_code", "Claude Code", "2.1.332", ["link", "terminal"]),
    provider("gemini_cli", "Gemini CLI", null, ["link", "terminal"]),
    provider("demo", "Demo", "1", ["desktop"]),
  ];
}

/**
 * The state of a sign-in: empty except for `part`.
 * @param {Partial<import("../../src/api.ts").SignInView>} [part]
 * @returns {import("../../src/api.ts").SignInView}
 */
export function signIn(part = {}) {
  return { url: null, browser_url: null, unexpected_address: null, device_code: null, device_code_until: null, prompt: null, failed: null, kept_in_machine: false, ...part };
}

/** The situations of each status, with phase and title. @type {Record<string, [import("../../src/api.ts").ForPerson["situation"], import("../../src/api.ts").Phase, string]>} */
const SITUATIONS = {
  vm_creating: ["preparing", "working", "Getting a computer ready…"],
  vm_created: ["preparing", "working", "Getting a computer ready…"],
  vm_stopped: ["replacing", "working", "Getting a new computer ready…"],
  vm_started: ["your_turn", "your_turn", "Your turn"],
  authenticating: ["your_turn", "your_turn", "Your turn"],
  completed: ["connected", "connected", "Connected"],
  failed: ["machines_failed", "failed", "This did not work"],
  cancelled: ["cancelled", "ended", "Stopped"],
  expired: ["idle_expired", "ended", "Closed"],
};

/** The sentence for each situation that has no other. @type {Record<string, (session: Session) => string>} */
const SENTENCES = {
  preparing: () => "This takes a few seconds.",
  replacing: () => "The temporary computer stopped. A new one is being prepared; you sign in again there.",
  your_turn: (session) => session.next_action,
  connected: (session) => `${session.provider_name} is connected. You can close this page.`,
  machines_failed: () => "The temporary computer stopped three times. Nothing was saved.",
  cancelled: () => "You can close this page. Nothing was saved.",
  idle_expired: () => "Closed because it was not used for 10 minutes. Nothing was saved.",
};

/**
 * What the server shows to the person of this session, except for `part`.
 * @param {Session} session
 * @param {Partial<import("../../src/api.ts").ForPerson>} [part]
 * @returns {import("../../src/api.ts").ForPerson}
 */
export function forPerson(session, part = {}) {
  const [situation, phase, title] = SITUATIONS[session.status] ?? ["preparing", "working", session.status];
  /** @type {import("../../src/api.ts").PersonAction[]} */
  const actions = situation === "your_turn" ? laneActions(session) : session.ended_at !== null || phase === "failed" ? ["start_session"] : [];
  const other_methods = session.methods.map((method) => method.id).filter((id) => id !== session.method);
  return {
    situation,
    phase,
    title,
    sentence: SENTENCES[situation]?.(session) ?? "",
    why: null,
    values: personValues(session),
    actions,
    other_methods,
    remote_browser: null,
    if_refused: null,
    since: null,
    usual_s: null,
    ...part,
  };
}

/** `null`: an owner without a name of its own. @param {Pick<Session, "owner_name">} session */
export function ownerForPerson({ owner_name }) {
  return owner_name === "operator" ? null : owner_name;
}

/** @param {Session} session @returns {import("../../src/api.ts").ForPerson["values"]} */
function personValues(session) {
  return {
    tool: session.provider_name,
    owner: ownerForPerson(session),
    instruction: session.next_action,
    host: "auth.openai.com",
    position: session.queue_position,
    wait_s: null,
    machines: 3,
    idle_s_max: 600,
    total_s_max: 3_600,
    reason: session.reason?.code ?? null,
    verdict: null,
  };
}

/** @param {Session} session @returns {import("../../src/api.ts").PersonAction[]} */
function laneActions(session) {
  /** @type {Record<Lane, import("../../src/api.ts").PersonAction>} */
  const actions = { link: "open_link", device_code: "open_link", desktop: "use_desktop", terminal: "use_terminal" };
  const has_url = session.sign_in.url !== null;
  return [...new Set(session.lanes.map((lane) => actions[lane]))].filter((action) => action !== "open_link" || has_url);
}

/** The time in so many seconds. @param {number} seconds */
export function inSeconds(seconds) {
  return new Date(Date.now() + seconds * 1000).toISOString();
}

/**
 * @param {number} number
 * @param {Partial<Session>} part
 * @returns {Session}
 */
export function newSession(number, part) {
  const session = /** @type {Session} */ ({
    id: `ses_01jd${String(number).padStart(22, "0")}`,
    provider: "codex",
    provider_name: "Codex",
    owner_name: "Acme",
    return_host: null,
    user_id: null,
    status: "vm_creating",
    reason: null,
    stage: null,
    queue_position: null,
    generation: 1,
    generations_max: 3,
    machine: null,
    created_at: inSeconds(-5),
    idle_deadline_at: inSeconds(600),
    deadline_at: inSeconds(1800),
    ended_at: null,
    sign_in: signIn(),
    lanes: ["device_code", "desktop", "terminal"],
    next_action: "Open the address in your own browser and type the code there.",
    return_url: null,
    credential: null,
    policy: "store",
    policy_sentence: STORE,
    method: "default",
    methods: [{ id: "default", label: "", lanes: ["device_code", "desktop", "terminal"] }],
    renews: null,
    credential_use: null,
    viewers: 0,
    ...part,
  });
  const policy_sentence = `Your sign-in is kept encrypted for ${session.owner_name} until you or they remove it.`;
  return { ...session, policy_sentence, for_person: part.for_person ?? forPerson(session) };
}

/**
 * @param {string} id
 * @param {string} session
 * @param {Partial<import("../../src/api.ts").CredentialMeta>} [part]
 * @returns {import("../../src/api.ts").CredentialMeta}
 */
export function credential(id, session, part = {}) {
  return {
    id,
    provider: "codex",
    user_id: "ada",
    session,
    stored_at: inSeconds(-86_400),
    files: [{ path: ".codex/auth.json", bytes: 4213, mode: 0o600 }],
    policy: "store",
    deliver_until: null,
    account: "ada@example.org",
    health: "valid",
    health_detail: "The tool confirmed the credential when it was stored.",
    checked_at: inSeconds(-86_400),
    expires_at: null,
    refreshable: true,
    sign_out_scope: "credential",
    sign_out_note: null,
    ...part,
  };
}

/** Two browsers of one person. */
export function signedInBrowsers() {
  const common = { signed_in_at: "2026-03-01T08:00:00.000Z", last_used_at: "2026-03-01T09:30:00.000Z", expires_at: "2026-03-01T20:00:00.000Z" };
  return [
    { ...common, id: "cal_00000000000000000000000001", description: "Firefox on Linux", address: "192.0.2.7", is_current: true },
    { ...common, id: "cal_00000000000000000000000002", description: "Safari on iOS", address: "2001:db8::7", is_current: false },
  ];
}
