// The requests of the operators' pages.

import { request, requestJson, sessionPath, type Schemas } from "../api";

export type ApiToken = Schemas["TokenView"];
export type AuditRecord = Schemas["AuditRecord"];
export type CreatedToken = Schemas["CreatedToken"];
export type Diagnosis = Schemas["Diagnosis"];
export type MachineList = Schemas["MachineList"];
export type Overview = Schemas["Overview"];
export type RefusedHost = Schemas["RefusedHost"];
export type SessionList = Schemas["SessionList"];
export type StartStage = Schemas["StartStage"];
export type Verification = Schemas["AuditVerification"];
export type WebhookReport = Schemas["WebhookReport"];

function withQuery(path: string, query: Record<string, string | number | undefined>): string {
  const set = Object.entries(query).filter((entry) => entry[1] !== undefined && entry[1] !== "");
  const search = new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString();
  return search === "" ? path : `${path}?${search}`;
}

/** Entries of a page of credentials or tokens. */
const LIST_PAGE = 500;

/** The first entries of a list. */
export interface FirstPages<T> {
  items: T[];
  /** Whether there are others. */
  has_more: boolean;
}

async function readPages<P extends { next_cursor: string | null }, T>(
  pages: number,
  read: (cursor: string | undefined) => Promise<P>,
  itemsOf: (page: P) => T[],
): Promise<FirstPages<T>> {
  const items: T[] = [];
  let cursor: string | undefined;
  for (let number = 0; number < pages; number++) {
    const page = await read(cursor);
    items.push(...itemsOf(page));
    if (page.next_cursor === null) return { items, has_more: false };
    cursor = page.next_cursor;
  }
  return { items, has_more: true };
}

/** Which sessions are listed; see `GET /api/sessions`. */
export interface SessionQuery {
  state?: string | undefined;
  provider?: string | undefined;
  caller?: string | undefined;
  user?: string | undefined;
  text?: string | undefined;
  verdict?: string | undefined;
  since_ms?: number | undefined;
  cursor?: string | undefined;
  limit?: number | undefined;
}

export interface AuditQuery {
  actor?: string | undefined;
  action?: string | undefined;
  session?: string | undefined;
  caller?: string | undefined;
  since_ms?: number | undefined;
  cursor?: number | undefined;
}

export const adminApi = {
  overview: (since_ms: number) => requestJson<"Overview">("GET", withQuery("/api/overview", { since_ms })),
  sessions: (query: SessionQuery) =>
    requestJson<"SessionList">("GET", withQuery("/api/sessions", { ...query, include: "verdict" })),
  refusedHosts: (since_ms: number) =>
    requestJson<"RefusedHostList">("GET", withQuery("/api/egress/refused", { since_ms })).then((list) => list.hosts),
  /** Allows the machines of one session a host that was denied to them. */
  grantHost: (session: string, host: string) => request("POST", sessionPath(session, "/hosts"), { host }),
  diagnosis: (session: string) => requestJson<"Diagnosis">("GET", sessionPath(session, "/diagnosis")),
  /** Makes a support bundle; returns it with its file name. */
  createBundle: async (session: string): Promise<{ name: string; content: Blob }> => {
    const response = await request("POST", sessionPath(session, "/bundle"), {});
    const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
    return { name: name ?? `${session}.tar.gz`, content: await response.blob() };
  },
  /** Another link for the session's person. */
  createLink: (session: string) => requestJson<"LoginLink">("POST", sessionPath(session, "/links"), {}).then(({ url }) => url),
  log: (session: string) => requestJson<"LogLines">("GET", sessionPath(session, "/log")).then(({ lines }) => lines),
  /** The first pages of all tokens. */
  tokens: (pages: number) =>
    readPages(
      pages,
      (cursor) => requestJson<"TokenList">("GET", withQuery("/api/tokens", { limit: LIST_PAGE, cursor })),
      (list) => list.tokens,
    ),
  /** The first pages of the stored credentials of all callers. */
  credentials: (pages: number) =>
    readPages(
      pages,
      (cursor) => requestJson<"CredentialList">("GET", withQuery("/api/credentials", { limit: LIST_PAGE, cursor })),
      (list) => list.credentials,
    ),
  createToken: (token: Schemas["CreateTokenRequest"]) => requestJson<"CreatedToken">("POST", "/api/tokens", token),
  /** Creates the successor of a token; the old one works for `overlap_s` more seconds. */
  rotateToken: (id: string, overlap_s: number) =>
    requestJson<"CreatedToken">("POST", `/api/tokens/${encodeURIComponent(id)}/rotate`, { overlap_s } satisfies Schemas["RotateTokenRequest"]),
  revokeToken: (id: string) => request("POST", `/api/tokens/${encodeURIComponent(id)}/revoke`, { end_sessions: false }),
  audit: (query: AuditQuery) => requestJson<"AuditPage">("GET", withQuery("/api/audit", { ...query, limit: 100 })),
  verifyAudit: () => requestJson<"AuditVerification">("GET", "/api/audit/verification"),
  hosts: () => requestJson<"HostList">("GET", "/api/hosts"),
  machines: () => requestJson<"MachineList">("GET", "/api/machines"),
  webhook: () => requestJson<"WebhookReport">("GET", "/api/webhook"),
};
