// Bodies as the API gives them, for the stand-in.

/** @typedef {import("../../src/api.ts").SessionView} Session */

/** @returns {import("../../src/api.ts").ProviderView[]} */
export function providers() {
  return [
    { id: "codex", name: "Codex", version: "0.169.0", lanes: ["device_code", "desktop"], policy: "store", available: true },
    { id: "claude_code", name: "Claude Code", version: "2.1.330", lanes: ["link", "terminal"], policy: "store", available: true },
    { id: "gemini_cli", name: "Gemini CLI", version: null, lanes: ["link", "terminal"], policy: "store", available: false },
    { id: "demo", name: "Demo", version: "1", lanes: ["desktop"], policy: "store", available: true },
  ];
}

/** @param {number} seconds from now */
export function inSeconds(seconds) {
  return new Date(Date.now() + seconds * 1000).toISOString();
}

/**
 * @param {number} number
 * @param {Partial<Session>} part
 * @returns {Session}
 */
export function newSession(number, part) {
  return {
    id: `ses_01jd${String(number).padStart(22, "0")}`,
    provider: "codex",
    provider_name: "Codex",
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
    sign_in: { url: null, device_code: null, device_code_until: null },
    lanes: ["device_code", "desktop"],
    next_action: "Open the address in your own browser and type the code there.",
    return_url: null,
    credential: null,
    policy: "store",
    viewers: 0,
    ...part,
  };
}

/**
 * @param {string} id
 * @param {string} session
 */
export function credential(id, session) {
  return {
    id,
    provider: "codex",
    user_id: "ada",
    session,
    stored_at: inSeconds(-86_400),
    files: [{ path: ".codex/auth.json", bytes: 4213, mode: 0o600 }],
  };
}
