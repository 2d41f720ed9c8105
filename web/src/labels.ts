// Labels for the values of the API. The tables cover every known value; a value from a newer server is shown unchanged.

import type { CredentialHealth, Stage, Status } from "./api";

/** The colour of a status. */
export type Tone = "busy" | "ready" | "good" | "bad" | "quiet";

interface StatusLabel {
  tone: Tone;
  /** Whether the session has ended. */
  ended: boolean;
}

const STATUS_LABELS: Record<Status, StatusLabel> = {
  vm_creating: { tone: "busy", ended: false },
  vm_created: { tone: "busy", ended: false },
  vm_started: { tone: "ready", ended: false },
  authenticating: { tone: "ready", ended: false },
  vm_stopped: { tone: "busy", ended: false },
  completed: { tone: "good", ended: true },
  failed: { tone: "bad", ended: true },
  cancelled: { tone: "quiet", ended: true },
  expired: { tone: "quiet", ended: true },
};

export const STATUSES = Object.keys(STATUS_LABELS) as Status[];

/** In boot order. */
export const STAGES: readonly Stage[] = ["process", "channel", "hello", "display", "window_manager", "terminal", "browser", "cli"];

const HEALTH_LABELS: Record<CredentialHealth, string> = {
  valid: "Valid",
  expiring: "Expires soon",
  needs_auth: "Sign-in needed",
};

export function isStatus(text: string): text is Status {
  return Object.hasOwn(STATUS_LABELS, text);
}

export function statusLabel(status: string): StatusLabel {
  return isStatus(status) ? STATUS_LABELS[status] : { tone: "busy", ended: false };
}

export function hasEnded(status: string): boolean {
  return statusLabel(status).ended;
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
