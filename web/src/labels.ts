// Labels for the values of the API. The tables cover every known value; a value from a newer server is shown unchanged.

import type { CredentialHealth, Lane, Stage, Status } from "./api";

/** The colour of a status. */
export type Tone = "busy" | "ready" | "good" | "bad" | "quiet";

interface StatusLabel {
  title: string;
  tone: Tone;
  /** Whether the session has ended. */
  ended: boolean;
}

const STATUS_LABELS: Record<Status, StatusLabel> = {
  vm_creating: { title: "Getting a machine ready", tone: "busy", ended: false },
  vm_created: { title: "The machine is starting", tone: "busy", ended: false },
  vm_started: { title: "The machine is ready", tone: "ready", ended: false },
  authenticating: { title: "Waiting for you to sign in", tone: "ready", ended: false },
  vm_stopped: { title: "The machine is being replaced", tone: "busy", ended: false },
  completed: { title: "Connected", tone: "good", ended: true },
  failed: { title: "The session failed", tone: "bad", ended: true },
  cancelled: { title: "Cancelled", tone: "quiet", ended: true },
  expired: { title: "The session expired", tone: "quiet", ended: true },
};

export const STATUSES = Object.keys(STATUS_LABELS) as Status[];

/** In boot order. */
const STAGE_LABELS: Record<Stage, string> = {
  process: "starting the machine",
  channel: "connecting to the machine",
  hello: "waiting for the machine's agent",
  display: "starting the display",
  window_manager: "starting the window manager",
  terminal: "preparing the terminal",
  browser: "preparing the browser",
  cli: "starting the tool",
};

/** In boot order. */
export const STAGES = Object.keys(STAGE_LABELS) as Stage[];

const LANE_LABELS: Record<Lane, string> = {
  link: "a link in your own browser",
  device_code: "a code you type in your own browser",
  terminal: "the tool's own prompts in the terminal",
  desktop: "the browser inside the machine",
};

const HEALTH_LABELS: Record<CredentialHealth, string> = {
  valid: "Valid",
  expiring: "Expires soon",
  needs_auth: "Sign-in needed",
};

export function isStatus(text: string): text is Status {
  return Object.hasOwn(STATUS_LABELS, text);
}

export function statusLabel(status: string): StatusLabel {
  return isStatus(status) ? STATUS_LABELS[status] : { title: status, tone: "busy", ended: false };
}

export function hasEnded(status: string): boolean {
  return statusLabel(status).ended;
}

/** Whether the sign-in can be shown: while there is no machine, the codes and addresses of an earlier machine are invalid. */
export function isReady(status: string): boolean {
  return statusLabel(status).tone !== "busy" || !isStatus(status);
}

export function stageLabel(stage: string): string {
  return (STAGE_LABELS as Record<string, string>)[stage] ?? stage;
}

/** The lanes as one phrase: "a link in your own browser or …". */
export function lanesLabel(lanes: readonly string[]): string {
  const labels = lanes.map((lane) => (LANE_LABELS as Record<string, string>)[lane] ?? lane);
  if (labels.length < 2) return labels[0] ?? "";
  return `${labels.slice(0, -1).join(", ")} or ${labels[labels.length - 1]}`;
}

export function healthLabel(health: string): string {
  return (HEALTH_LABELS as Record<string, string>)[health] ?? health;
}

/** Formats a size: `512 bytes`, `4.1 KiB`. */
export function formatBytes(bytes: number): string {
  return bytes < 1024 ? `${bytes} bytes` : `${(bytes / 1024).toFixed(bytes < 10_240 ? 1 : 0)} KiB`;
}

/** Formats permission bits: `0600`. */
export function formatMode(mode: number): string {
  return `0${(mode & 0o777).toString(8).padStart(3, "0")}`;
}
