// Addresses of the pages.

export const PICK_PAGE = "/dashboard/remote-cli";

export function sessionPage(session: string, provider: string): string {
  return `${PICK_PAGE}/auth?${new URLSearchParams({ session, provider }).toString()}`;
}
