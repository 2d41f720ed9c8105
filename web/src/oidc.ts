// Sign-in with the OpenID provider: this page goes there, and `/sign-in/callback` receives its answer.

import { api } from "./api";
import { START_PATH } from "./pages";

/** In this tab's storage: the path to which the user returns. */
const RETURN_NAME = "oidc_return";
/** In this tab's storage: the user has just signed out. */
const SIGNED_OUT_NAME = "signed_out";

/** What the provider added to the address of the callback page. */
export interface ProviderAnswer {
  state: string;
  code?: string;
  error?: string;
  error_description?: string;
  iss?: string;
}

function remember(name: string, value: string) {
  try {
    sessionStorage.setItem(name, value);
  } catch {
    // The browser stores nothing: the user continues on the start page.
  }
}

function takeRemembered(name: string): string | null {
  try {
    const value = sessionStorage.getItem(name);
    sessionStorage.removeItem(name);
    return value;
  } catch {
    return null;
  }
}

/** Goes to the provider; `confirm`: it asks the user to authenticate again. The user returns to this page, or to the start page. */
export async function goToProvider(purpose: "sign-in" | "confirm"): Promise<void> {
  const { authorization_url } = await (purpose === "confirm" ? api.beginConfirmation() : api.beginSignIn());
  const { pathname, search } = window.location;
  if (pathname !== "/sign-in/callback") remember(RETURN_NAME, pathname + search);
  window.location.assign(authorization_url);
}

/** The path of this origin to which the user returns. */
export function returnPath(): string {
  const path = takeRemembered(RETURN_NAME);
  return path?.startsWith("/dashboard/") === true ? path : START_PATH;
}

/** Returns the provider's answer from the address and removes it from the address and the history. `null`: there is none. */
export function extractAnswer(): ProviderAnswer | null {
  const { hash, search, pathname } = window.location;
  window.history.replaceState(null, "", pathname);
  const fragment = new URLSearchParams(hash.slice(1));
  const parameters = fragment.has("state") ? fragment : new URLSearchParams(search);
  const state = parameters.get("state");
  if (state === null) return null;
  const answer: ProviderAnswer = { state };
  for (const name of ["code", "error", "error_description", "iss"] as const) {
    const value = parameters.get(name);
    if (value !== null) answer[name] = value;
  }
  return answer;
}

/** Whether this page signs out: it may notice that before it is loaded again, and must leave what is remembered to the page that follows. */
let is_signing_out = false;

/** Signs this browser out, and remembers it for the page that follows. */
export async function signOutHere(): Promise<void> {
  is_signing_out = true;
  try {
    await api.logOut();
    remember(SIGNED_OUT_NAME, "1");
  } catch (error) {
    is_signing_out = false;
    throw error;
  }
}

/** Whether the user has just signed out in this tab. */
export function hasJustSignedOut(): boolean {
  return is_signing_out || takeRemembered(SIGNED_OUT_NAME) !== null;
}

/** The host of an issuer, for people. */
export function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}
