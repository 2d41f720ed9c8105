// Addresses of the pages.

export const PICK_PAGE = "/dashboard/remote-cli";

export function sessionPage(session: string, provider: string): string {
  return `${PICK_PAGE}/auth?${new URLSearchParams({ session, provider }).toString()}`;
}

/** The session's page for somebody who only looks. */
export function watchPage(session: string, provider: string): string {
  return `${sessionPage(session, provider)}&view=1`;
}

/** Whether this page is only for looking: `?view=1`. */
export function isViewOnly(): boolean {
  return new URLSearchParams(window.location.search).get("view") === "1";
}
