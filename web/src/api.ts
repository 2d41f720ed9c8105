// The client of the API: same origin, authenticated by the cookie and the browser's key. The types come from the API's OpenAPI document (`npm run api`).

import type { components } from "./api-types";
import { browserKey } from "./browser-key";
import { isEmbedded } from "./frames";
import { clock } from "./clock";
import { server, texts } from "./texts";

export type Schemas = components["schemas"];
export type BrowserView = Schemas["BrowserView"];
export type ConsentView = Schemas["ConsentView"];
export type CredentialFile = Schemas["CredentialFile"];
export type CredentialHealth = Schemas["CredentialHealth"];
export type CredentialMeta = Schemas["CredentialMeta"];
export type CurrentCaller = Schemas["CurrentCaller"];
export type ForPerson = Schemas["ForPerson"];
export type RemoteBrowserState = Schemas["RemoteBrowserState"];
export type Health = Schemas["Health"];
export type HelperView = Schemas["HelperView"];
export type Isolation = Schemas["Isolation"];
export type Lane = Schemas["Lane"];
export type MethodView = Schemas["MethodView"];
export type OidcProvider = Schemas["OidcProvider"];
export type PasteResult = Schemas["PasteResult"];
export type PersonAction = Schemas["PersonAction"];
export type Phase = Schemas["Phase"];
export type PromptView = Schemas["PromptView"];
export type ProviderView = Schemas["ProviderView"];
export type SessionView = Schemas["SessionView"];
export type SignInView = Schemas["SignInView"];
export type Stage = Schemas["Stage"];
export type StartResponse = Schemas["StartResponse"];
export type Status = Schemas["SessionStatus"];
export type Ticket = Schemas["Ticket"];
export type TicketTarget = Schemas["TicketTarget"];
export type TimelineEntry = Schemas["TimelineEntry"];
export type UseView = Schemas["CredentialUseView"];

/** A file of a credential. */
export interface LeasedFile {
  path: string;
  /** Permission bits. */
  mode: number;
  /** Base64. */
  content: string;
}

/** An error of the API, or a failure that the page describes in the same form. */
export type Problem = Omit<Schemas["ProblemDetails"], "close_code" | "type" | "title" | "status" | "instance"> & { close_code: number };

/** A request that failed. `status` is the HTTP status, 0 if there was no response. */
export class ApiError extends Error {
  constructor(
    readonly problem: Problem,
    readonly status: number,
  ) {
    super(problem.sentence);
    this.name = "ApiError";
  }
}

const UNREACHABLE: Problem = {
  code: "server_unreachable",
  sentence: "The server does not answer.",
  remedy: "Check your connection, then try again.",
  get for_person() {
    return texts.connection_lost;
  },
  close_code: 1006,
};

const BODY_REFUSED: Problem = {
  code: "proxy_body_limit",
  sentence: "A reverse proxy in front of this server refuses large requests.",
  remedy: "Permit requests of 1 MiB in the proxy.",
  get for_person() {
    return texts.too_large_for_the_way;
  },
  close_code: 4400,
};

const REQUEST_TIMEOUT_MS = 20_000;

function isProblem(body: unknown): body is Problem {
  return (
    typeof body === "object" &&
    body !== null &&
    typeof (body as Problem).code === "string" &&
    typeof (body as Problem).sentence === "string"
  );
}

/** What the server sends for people, in the current language. */
export const inLanguage = {
  problem: (problem: Problem): Problem => (server === null ? problem : { ...problem, for_person: server.problem(problem) }),
  session: (session: SessionView): SessionView => server?.session(session) ?? session,
  provider: (provider: ProviderView): ProviderView => server?.provider(provider) ?? provider,
  consent: (consent: ConsentView): ConsentView => (server === null ? consent : { ...consent, sentence: server.request(consent) }),
};

async function problemOf(response: Response): Promise<Problem> {
  const body: unknown = await response.json().catch(() => null);
  if (isProblem(body)) return inLanguage.problem(body);
  // The server answers every error with a problem.
  if (response.status === 413) return { ...BODY_REFUSED };
  return {
    code: `http_${response.status}`,
    sentence: `The server answered ${response.status} ${response.statusText}`.trim() + ".",
    remedy: "A proxy between this page and the server may have sent this answer. Try again.",
    for_person: texts.unexpected_answer,
    close_code: 4500,
  };
}

export async function request(method: string, path: string, body?: unknown): Promise<Response> {
  // A page of another site cannot set this header without a preflight request, and does not know the key.
  const headers: Record<string, string> = { Accept: "application/json", "X-Anteroom": browserKey() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(UNREACHABLE, 0);
  }
  clock.synchronize(response.headers.get("Date"));
  if (response.ok) return response;
  const problem = await problemOf(response);
  const session = /^\/api\/auth\/session\/([^/]+)\/(?!proxy-fault)/.exec(path)?.[1];
  if (problem.code === BODY_REFUSED.code && session !== undefined) void api.reportProxyFault(session, "proxy_body_limit").catch(() => undefined);
  throw new ApiError(problem, response.status);
}

export async function requestJson<Name extends keyof Schemas>(method: string, path: string, body?: unknown): Promise<Schemas[Name]> {
  const response = await request(method, path, body);
  try {
    return (await response.json()) as Schemas[Name];
  } catch {
    throw new ApiError(await problemOf(response), response.status);
  }
}

export const sessionPath = (id: string, rest = "") => `/api/auth/session/${encodeURIComponent(id)}${rest}`;
const ofCaller = (name: string | null, others: Record<string, string> = {}) =>
  `?${new URLSearchParams({ ...(name === null ? {} : { caller: name }), ...others })}`;
const credentialPath = (id: string, rest = "") => `/api/credentials/${encodeURIComponent(id)}${rest}`;

/** Paths of event streams and WebSockets. */
export const paths = {
  events: (id: string) => sessionPath(id, "/events"),
  allEvents: "/api/sessions/events",
  desktopSocket: (id: string) => sessionPath(id, "/novnc/websock"),
  terminalSocket: (id: string) => sessionPath(id, "/terminal"),
};

const useCredential = (id: string, use: Schemas["CredentialUseRequest"]) =>
  requestJson<"StartResponse">("POST", credentialPath(id, "/use"), use);

export const api = {
  /** Exchanges a login token for the cookie. */
  login: (login_token: string) =>
    request("POST", "/api/login", { login_token, browser_key: browserKey(), embedded: isEmbedded() } satisfies Schemas["LoginRequest"]),
  /** The OpenID provider with which people sign in. */
  oidcProvider: () => requestJson<"OidcProvider">("GET", "/api/oidc"),
  /** Begins a sign-in with the provider. */
  beginSignIn: () =>
    requestJson<"OidcStart">("POST", "/api/oidc/sign-in", { browser_key: browserKey() } satisfies Schemas["OidcRequest"]),
  /** Begins a confirmation with the provider: it asks the user to authenticate again. */
  beginConfirmation: () =>
    requestJson<"OidcStart">("POST", "/api/oidc/confirm", { browser_key: browserKey() } satisfies Schemas["OidcRequest"]),
  /** Finishes either with the provider's answer. */
  finishOidc: (answer: Omit<Schemas["OidcAnswer"], "browser_key">) =>
    requestJson<"OidcOutcome">("POST", "/api/oidc/callback", { ...answer, browser_key: browserKey() } satisfies Schemas["OidcAnswer"]),
  /** Signs this browser out. */
  logOut: () => request("POST", "/api/logout", {}),
  browsers: () => requestJson<"BrowserList">("GET", "/api/browsers").then((list) => list.browsers),
  signBrowserOut: (id: string) => request("DELETE", `/api/browsers/${encodeURIComponent(id)}`),
  currentCaller: () => requestJson<"CurrentCaller">("GET", "/api/me"),
  providers: () => requestJson<"ProviderList">("GET", "/api/providers").then((list) => list.providers.map(inLanguage.provider)),
  /** The open ones. `of`: the name of the caller that started them; `null`: all that this page's user may see. */
  openSessions: (of: string | null = null) => requestJson<"SessionList">("GET", `/api/sessions${ofCaller(of, { state: "active" })}`).then((list) => list.sessions.map(inLanguage.session)),
  credentials: (of: string | null = null) => requestJson<"CredentialList">("GET", `/api/credentials${ofCaller(of)}`).then((list) => list.credentials),
  /** The files of a credential. */
  leaseCredential: async (id: string) => (await (await request("POST", credentialPath(id, "/lease"), {})).json()) as { files: LeasedFile[] },
  deleteCredential: (id: string) => request("DELETE", credentialPath(id)),
  startSession: (start: Schemas["StartRequest"]) => requestJson<"StartResponse">("POST", "/api/auth/start", start),
  /** Runs the tool's status command with the credential in a new machine. */
  checkCredential: (id: string) => useCredential(id, { purpose: "check" }),
  /** Runs the tool's sign-out command with the credential in a new machine. */
  signOutCredential: (id: string) => useCredential(id, { purpose: "logout" }),
  session: (id: string) => requestJson<"SessionView">("GET", sessionPath(id)).then(inLanguage.session),
  timeline: (id: string) => requestJson<"Timeline">("GET", sessionPath(id, "/events")).then((timeline) => timeline.entries),
  sessionCredentials: (id: string) =>
    requestJson<"CredentialList">("GET", sessionPath(id, "/credentials")).then((list) => list.credentials),
  /** Who asks for the credential, and whether this browser's user must agree. */
  consent: (id: string) => requestJson<"ConsentView">("GET", sessionPath(id, "/consent")).then(inLanguage.consent),
  giveConsent: (id: string) => requestJson<"ConsentView">("POST", sessionPath(id, "/consent"), {}).then(inLanguage.consent),
  createTicket: (id: string, ticket: Schemas["TicketRequest"]) => requestJson<"Ticket">("POST", sessionPath(id, "/ticket"), ticket),
  /** Records what this page noticed of a reverse proxy on its way. */
  reportProxyFault: (id: string, fault: Schemas["ProxyFault"]) =>
    request("POST", sessionPath(id, "/proxy-fault"), { fault } satisfies Schemas["ProxyFaultReport"]),
  /** Creates a link with which a helper of this name watches the session. */
  inviteHelper: (id: string, name: string) =>
    requestJson<"LoginLink">("POST", sessionPath(id, "/invitations"), { name } satisfies Schemas["InvitationRequest"]),
  helpers: (id: string) => requestJson<"HelperList">("GET", sessionPath(id, "/helpers")).then((list) => list.helpers),
  /** Ends the access of a helper, or an invitation that was not used yet. */
  endHelper: (id: string, helper: string) => request("DELETE", sessionPath(id, `/helpers/${encodeURIComponent(helper)}`)),
  /** Keeps the session open: its idle time starts again. */
  heartbeat: (id: string) => requestJson<"SessionView">("POST", sessionPath(id, "/heartbeat"), {}).then(inLanguage.session),
  cancel: (id: string) => request("POST", sessionPath(id, "/cancel"), {}),
  restart: (id: string) => request("POST", sessionPath(id, "/restart"), {}),
  /** Opens a URL in the machine's browser. */
  openUrl: (id: string, url: string) => request("POST", sessionPath(id, "/open-url"), { url } satisfies Schemas["OpenUrl"]),
  /** Passes text from the user to the tool: a code, a key, or the callback address at which the user's browser ended. */
  paste: (id: string, text: string) =>
    requestJson<"PasteResult">("POST", sessionPath(id, "/paste"), { text } satisfies Schemas["PasteRequest"]),
  /** Restarts the tool with another sign-in method. */
  changeMethod: (id: string, method: string) =>
    request("POST", sessionPath(id, "/method"), { method } satisfies Schemas["MethodRequest"]),
  /** Types text into the tool's terminal. */
  typeText: (id: string, text: string, enter: boolean) =>
    request("POST", sessionPath(id, "/type"), { text, enter } satisfies Schemas["TypeRequest"]),
  /** The server's health, `null` if it does not answer. A server that is down answers 503 with the same body. */
  health: async (): Promise<Health | null> => {
    const headers = { "X-Anteroom": browserKey() };
    const response = await fetch("/health", { headers, credentials: "same-origin", cache: "no-store" }).catch(() => null);
    const body: unknown = await response?.json().catch(() => null);
    return typeof body === "object" && body !== null && Array.isArray((body as Health).checks) ? (body as Health) : null;
  },
};

/** Whether the server did not answer, or not by itself: the same request may succeed later. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/** Converts any error to a problem that can be shown. */
export function toProblem(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  return {
    code: "page_fault",
    sentence: "This page failed.",
    detail: error instanceof Error ? error.message : String(error),
    remedy: "Reload the page.",
    for_person: texts.page_failed,
    close_code: 4500,
  };
}
