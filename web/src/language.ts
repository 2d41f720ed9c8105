// The language of a page. The server chooses it when it sends the HTML: by the cookie, then by the languages of the browser.

import { isEmbedded } from "./frames";
import { isLanguage, language, loadLanguage, type Language } from "./texts";

/** As in the server's `http/language.rs`. */
const COOKIE_NAME = "anteroom_language";
const COOKIE_AGE_S_MAX = 365 * 24 * 3600;

/** Loads the texts of the language of the page's HTML. */
export async function loadPageLanguage(): Promise<void> {
  const { lang } = document.documentElement;
  if (!isLanguage(lang)) return;
  try {
    await loadLanguage(lang);
  } catch {
    // A page in English is better than none.
    document.documentElement.lang = language.value;
  }
}

/** Shows the page in another language, and remembers it for the pages that follow. */
export async function chooseLanguage(chosen: Language): Promise<void> {
  const site = isEmbedded() ? "SameSite=None; Secure; Partitioned" : "SameSite=Lax";
  document.cookie = `${COOKIE_NAME}=${chosen}; Path=/; Max-Age=${COOKIE_AGE_S_MAX}; ${site}`;
  await loadLanguage(chosen);
  document.documentElement.lang = chosen;
}

/** The locale for dates and numbers: the browser's variant of the current language, if it has one. */
export function locale(): string {
  const current = language.value;
  return navigator.languages.find((one) => one === current || one.startsWith(`${current}-`)) ?? current;
}
