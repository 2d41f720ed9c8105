// The single-use login token of a link. It is in the URL's fragment, which browsers do not send to servers.

/** Returns the login token from the address and removes it from the address and the history. */
export function extractLoginToken(): string | null {
  const login_token = new URLSearchParams(window.location.hash.slice(1)).get("login_token");
  if (login_token === null) return null;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return login_token === "" ? null : login_token;
}
