// Paths of the pages.

export const START_PATH = "/dashboard/remote-cli";

/** The path of a session's page. `view_only`: only watch the session. */
export function sessionPath(session: string, options: { provider?: string; view_only?: boolean } = {}): string {
  const query = new URLSearchParams({ session });
  if (options.provider !== undefined) query.set("provider", options.provider);
  if (options.view_only === true) query.set("view", "1");
  return `${START_PATH}/auth?${query.toString()}`;
}

/** Whether this page only watches the session: `?view=1`. */
export function isViewOnly(): boolean {
  return new URLSearchParams(window.location.search).get("view") === "1";
}
