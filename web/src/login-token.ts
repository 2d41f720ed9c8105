// The single-use login token of a link. It is in the URL's fragment, which browsers do not send to servers.

/** Returns the login token from the address and removes it from the address and the history. */
export function extractLoginToken(): string | null {
  const login_token = new URLSearchParams(window.location.hash.slice(1)).get("login_token");
  if (login_token === null) return null;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return login_token === "" ? null : login_token;
}

/** Loads the page again when a link with a login token is opened in its tab: only the fragment changes then. */
export function followNewLinks(): void {
  window.addEventListener("hashchange", () => {
    if (new URLSearchParams(window.location.hash.slice(1)).has("login_token")) window.location.reload();
  });
}

/** The parts of a link that was pasted: the path of its page, its session, its login token. `null`: it has no login token. */
export function partsOfLink(text: string): { page: string; session: string | null; login_token: string; is_here: boolean } | null {
  const compact = text.replace(/\s+/g, "");
  const url = URL.canParse(compact) ? new URL(compact) : null;
  const login_token = new URLSearchParams(url?.hash.slice(1) ?? "").get("login_token") ?? "";
  if (url === null || login_token === "") return null;
  const is_here = url.origin === window.location.origin;
  return { page: url.pathname + url.search, session: url.searchParams.get("session"), login_token, is_here };
}
