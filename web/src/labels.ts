// The words people read for what the API says. The tables are exhaustive over what `crates/wire` defines; a word from a
// newer server is shown as it is.

/** Mirrors `wire::api::Status`. */
export const STATUSES = [
  "vm_creating",
  "vm_created",
  "vm_started",
  "authenticating",
  "vm_stopped",
  "completed",
  "failed",
  "cancelled",
  "expired",
] as const;
export type Status = (typeof STATUSES)[number];

/** Mirrors `wire::agent::Stage`, in its order. */
export const STAGES = [
  "process",
  "channel",
  "hello",
  "display",
  "window_manager",
  "terminal",
  "browser",
  "cli",
] as const;
export type Stage = (typeof STAGES)[number];

/** Mirrors `wire::provider::Lane`. */
export const LANES = ["link", "device_code", "terminal", "desktop"] as const;
export type Lane = (typeof LANES)[number];

/** How a status looks: which colour, and whether something is going on. */
export type Tone = "busy" | "ready" | "good" | "bad" | "quiet";

interface StatusWords {
  title: string;
  tone: Tone;
  over: boolean;
}

const STATUS_WORDS: Record<Status, StatusWords> = {
  vm_creating: { title: "Asking for a machine", tone: "busy", over: false },
  vm_created: { title: "The machine is starting", tone: "busy", over: false },
  vm_started: { title: "The machine is ready", tone: "ready", over: false },
  authenticating: { title: "Sign-in is running", tone: "ready", over: false },
  vm_stopped: { title: "The machine is being replaced", tone: "busy", over: false },
  completed: { title: "Connected", tone: "good", over: true },
  failed: { title: "The session failed", tone: "bad", over: true },
  cancelled: { title: "Cancelled", tone: "quiet", over: true },
  expired: { title: "The session expired", tone: "quiet", over: true },
};

const STAGE_WORDS: Record<Stage, string> = {
  process: "starting the machine",
  channel: "opening its channel",
  hello: "greeting its agent",
  display: "starting the display",
  window_manager: "starting the window manager",
  terminal: "preparing the terminal",
  browser: "preparing the browser",
  cli: "starting the tool",
};

const LANE_WORDS: Record<Lane, string> = {
  link: "a link in your own browser",
  device_code: "a code you type in your own browser",
  terminal: "the tool's own prompts in the terminal",
  desktop: "the browser inside the machine",
};

/** Mirrors `wire::api::CredentialHealth`. */
export const HEALTHS = ["valid", "expiring", "needs_auth"] as const;
export type CredentialHealth = (typeof HEALTHS)[number];

const HEALTH_WORDS: Record<CredentialHealth, string> = {
  valid: "Valid",
  expiring: "Ends soon",
  needs_auth: "Needs a sign-in",
};

export function isStatus(text: string): text is Status {
  return (STATUSES as readonly string[]).includes(text);
}

/** Words for any status; an unknown one is shown as it came. */
export function statusWords(status: string): StatusWords {
  return isStatus(status) ? STATUS_WORDS[status] : { title: status, tone: "busy", over: false };
}

export function isOver(status: string): boolean {
  return statusWords(status).over;
}

/** Whether there is a machine to use: without one, a code or an address of before is worth nothing. */
export function isReady(status: string): boolean {
  return statusWords(status).tone !== "busy" || !isStatus(status);
}

export function stageWords(stage: string): string {
  return (STAGE_WORDS as Record<string, string>)[stage] ?? stage;
}

/** How a tool can be signed in, as one phrase: "a link in your own browser, or …". */
export function lanesWords(lanes: readonly string[]): string {
  const words = lanes.map((lane) => (LANE_WORDS as Record<string, string>)[lane] ?? lane);
  if (words.length < 2) return words[0] ?? "";
  return `${words.slice(0, -1).join(", ")} or ${words[words.length - 1]}`;
}

/** Whether a credential can be used, in two words; an unknown one is shown as it came. */
export function healthWords(health: string): string {
  return (HEALTH_WORDS as Record<string, string>)[health] ?? health;
}

/** Bytes for people. */
export function bytesWords(bytes: number): string {
  return bytes < 1024 ? `${bytes} bytes` : `${(bytes / 1024).toFixed(bytes < 10_240 ? 1 : 0)} KiB`;
}

/** Permission bits as `0600`. */
export function modeWords(mode: number): string {
  return `0${(mode & 0o777).toString(8).padStart(3, "0")}`;
}
