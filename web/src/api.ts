// The API's bodies and calls, as `crates/wire` defines them (api.rs, problem.rs, provider.rs). Same origin, cookie only.
//
// Words of a closed set (status, stage, lane) stay plain strings here: a newer server may send one that this page
// does not know, and the page then shows the raw text. words.ts maps the known ones, exhaustively.

import { clock } from "./clock";

export interface Reason {
  code: string;
  sentence: string;
}

export interface SignInView {
  /** For the person's own browser. */
  url: string | null;
  /** For the machine's browser; a person's own browser ends with it at an address of its own loopback. */
  browser_url: string | null;
  device_code: string | null;
  /** RFC 3339. */
  device_code_until: string | null;
  prompt: PromptView | null;
  /** Why the tool says that its sign-in failed. */
  failed: string | null;
  /** The credential is whole and stays in the machine. */
  kept_in_machine: boolean;
}

/** A question of the tool's. */
export interface PromptView {
  id: string;
  label: string;
  secret: boolean;
  hint: string | null;
  /** Why the tool did not take the last answer. */
  rejected: string | null;
}

/** One of the commands by which a tool can be signed in. */
export interface MethodView {
  id: string;
  label: string;
  lanes: string[];
}

/** What a stored credential is used for in a session. */
export interface UseView {
  purpose: string;
  credential: string;
  exit_code: number | null;
}

/** What became of what was pasted. */
export interface Pasted {
  interpreted_as: string;
  /** The tool's HTTP answer, for a callback. */
  status?: number;
}

export interface CredentialFile {
  /** Below the home directory. */
  path: string;
  bytes: number;
  mode: number;
}

export interface CredentialMeta {
  id: string;
  provider: string;
  user_id: string | null;
  session: string;
  stored_at: string;
  files: CredentialFile[];
  policy: string;
  deliver_until: string | null;
  health: string;
  health_detail: string;
  checked_at: string;
  expires_at: string | null;
}

export interface SessionView {
  id: string;
  provider: string;
  provider_name: string;
  user_id: string | null;
  status: string;
  reason: Reason | null;
  stage: string | null;
  queue_position: number | null;
  generation: number;
  generations_max: number;
  /** The external machine, by its name; null: a machine that was made for this session. */
  machine: string | null;
  created_at: string;
  idle_deadline_at: string | null;
  deadline_at: string;
  ended_at: string | null;
  sign_in: SignInView;
  lanes: string[];
  next_action: string;
  return_url: string | null;
  credential: CredentialMeta | null;
  policy: string;
  policy_sentence: string;
  method: string;
  /** The preferred one first. */
  methods: MethodView[];
  /** The credential that is signed in for again. */
  renews: string | null;
  credential_use: UseView | null;
  viewers: number;
}

export interface TimelineEntry {
  number: number;
  at: string;
  kind: string;
  sentence: string;
  data: unknown;
}

export interface Timeline {
  entries: TimelineEntry[];
}

export interface Started {
  session: SessionView;
  viewer_url: string;
}

export interface Ticket {
  ticket: string;
  expires_in_s: number;
}

export interface Me {
  role: string;
  session: string | null;
}

export interface ProviderView {
  id: string;
  name: string;
  version: string | null;
  lanes: string[];
  policy: string;
  policy_sentence: string;
  methods: MethodView[];
  available: boolean;
  /** The tool can be asked whether it is signed in. */
  can_check: boolean;
  /** The tool has a command that signs out at the provider. */
  can_sign_out: boolean;
}

export interface HealthCheck {
  name: string;
  status: string;
  detail: string;
}

export interface Health {
  status: string;
  version: string;
  checks: HealthCheck[];
}

/** A refusal as the server words it (`ProblemBody`), or as this page words a failure to reach the server. */
export interface ProblemBody {
  code: string;
  sentence: string;
  detail?: string | null;
  remedy: string;
  close_code: number;
}

/** A call that was refused or did not arrive. `status` is 0 when there was no answer. */
export class Refused extends Error {
  constructor(
    readonly problem: ProblemBody,
    readonly status: number,
  ) {
    super(problem.sentence);
    this.name = "Refused";
  }
}

const UNREACHABLE: ProblemBody = {
  code: "server_unreachable",
  sentence: "The server does not answer.",
  remedy: "Check your connection. This page tries again by itself.",
  close_code: 1006,
};

/** How long one call may take. */
const CALL_MS_MAX = 20_000;

function isProblem(body: unknown): body is ProblemBody {
  return (
    typeof body === "object" &&
    body !== null &&
    typeof (body as ProblemBody).code === "string" &&
    typeof (body as ProblemBody).sentence === "string"
  );
}

async function problemOf(response: Response): Promise<ProblemBody> {
  const body: unknown = await response.json().catch(() => null);
  if (isProblem(body)) return body;
  return {
    code: `http_${response.status}`,
    sentence: `The server answered ${response.status} ${response.statusText}`.trim() + ".",
    remedy: "Something between this page and the server may have answered in its place. Try again.",
    close_code: 4500,
  };
}

async function call(method: string, path: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  // A header that another site's page cannot send without asking first: the guard against forged requests.
  if (method !== "GET") headers["X-Anteroom"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(CALL_MS_MAX),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new Refused(UNREACHABLE, 0);
  }
  clock.heard(response.headers.get("Date"));
  if (!response.ok) throw new Refused(await problemOf(response), response.status);
  return response;
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await call(method, path, body);
  try {
    return (await response.json()) as T;
  } catch {
    throw new Refused(await problemOf(response), response.status);
  }
}

const session = (id: string, rest = "") => `/api/auth/session/${encodeURIComponent(id)}${rest}`;

/** Paths that are opened by EventSource and WebSocket rather than called. */
export const paths = {
  /** `after`: the number of the last entry that is known. */
  events: (id: string, after = 0) => session(id, after === 0 ? "/events" : `/events?after=${after}`),
  desktopSocket: (id: string) => session(id, "/novnc/websock"),
  terminalSocket: (id: string) => session(id, "/terminal"),
  desktopPage: (id: string) => session(id, "/novnc"),
};

export type Purpose = "desktop" | "terminal";

export const api = {
  enter: (pass: string) => call("POST", "/api/login", { login_token: pass }),
  me: () => json<Me>("GET", "/api/me"),
  providers: () => json<{ providers: ProviderView[] }>("GET", "/api/providers").then((list) => list.providers),
  sessions: () => json<{ sessions: SessionView[] }>("GET", "/api/sessions").then((list) => list.sessions),
  credentials: () => json<{ credentials: CredentialMeta[] }>("GET", "/api/credentials").then((list) => list.credentials),
  deleteCredential: (id: string) => call("DELETE", `/api/credentials/${encodeURIComponent(id)}`),
  /** `renews`: the credential that shall be signed in for again. */
  start: (provider: string, idempotency_key: string, renews?: string) =>
    json<Started>("POST", "/api/auth/start", renews === undefined ? { provider, idempotency_key } : { provider, idempotency_key, renews }),
  /** A fresh machine in which the tool itself is asked about the credential. */
  checkCredential: (id: string) => json<Started>("POST", `/api/credentials/${encodeURIComponent(id)}/use`, { purpose: "check" }),
  /** A fresh machine in which the tool signs out at the provider. */
  signOutCredential: (id: string) => json<Started>("POST", `/api/credentials/${encodeURIComponent(id)}/use`, { purpose: "logout" }),
  session: (id: string) => json<SessionView>("GET", session(id)),
  timeline: (id: string) => json<Timeline>("GET", session(id, "/events")).then((timeline) => timeline.entries),
  sessionCredentials: (id: string) =>
    json<{ credentials: CredentialMeta[] }>("GET", session(id, "/credentials")).then((list) => list.credentials),
  ticket: (id: string, purpose: Purpose, view_only = false) =>
    json<Ticket>("POST", session(id, "/ticket"), view_only ? { purpose, view_only } : { purpose }),
  heartbeat: (id: string) => call("POST", session(id, "/heartbeat"), {}),
  cancel: (id: string) => call("POST", session(id, "/cancel"), {}),
  restart: (id: string) => call("POST", session(id, "/restart"), {}),
  openUrl: (id: string, url: string) => call("POST", session(id, "/open-url"), { url }),
  /** What the person brings: a code, a key, or the address at which their own browser ended. */
  paste: (id: string, text: string) => json<Pasted>("POST", session(id, "/paste"), { text }),
  /** Another way to sign the same tool in: the tool is started anew. */
  method: (id: string, method: string) => call("POST", session(id, "/method"), { method }),
  type: (id: string, text: string, enter: boolean) => call("POST", session(id, "/type"), { text, enter }),
  /** The server's health; a server that is down answers 503 with the same body. */
  health: async (): Promise<Health | null> => {
    const response = await fetch("/health", { credentials: "same-origin", cache: "no-store" }).catch(() => null);
    const body: unknown = await response?.json().catch(() => null);
    return typeof body === "object" && body !== null && Array.isArray((body as Health).checks) ? (body as Health) : null;
  },
};

/** Any thrown thing as a problem that can be shown. */
export function asProblem(thrown: unknown): ProblemBody {
  if (thrown instanceof Refused) return thrown.problem;
  return {
    code: "page_fault",
    sentence: "This page failed.",
    detail: thrown instanceof Error ? thrown.message : String(thrown),
    remedy: "Load the page again.",
    close_code: 4500,
  };
}
