// The texts of the person's pages in the person's language. English is in the scripts of the pages; another language is loaded when a page
// needs it. `texts` changes with the language: read it where a component renders, not when a module is loaded.

import { Store } from "../store";
import { en } from "./en";
import type { Translation } from "./translation";

/** The languages, by the name that each has for itself. */
export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;

/** The texts and functions of a catalogue, with any texts. */
type Translated<T> = T extends string
  ? string
  : T extends (...values: infer Values) => string
    ? (...values: Values) => string
    : { readonly [Name in keyof T]: Translated<T[Name]> };
export type Texts = Translated<typeof en>;

/** A language. */
export interface Catalogue {
  texts: Texts;
  /** Of the server's texts; `null`: they are in this language. */
  server: Translation | null;
}

const ENGLISH: Catalogue = { texts: en, server: null };

const LOADED: Record<Language, () => Promise<Catalogue>> = {
  en: () => Promise.resolve(ENGLISH),
  de: () => import("./de").then(({ de }) => de),
};

/** The texts in the current language. */
export let texts: Texts = en;
/** Of the server's texts into the current language; `null`: they are in it. */
export let server: Translation | null = null;
/** The current language. */
export const language = new Store<Language>("en");

let requested: Language = "en";

export function isLanguage(text: string): text is Language {
  return Object.hasOwn(LANGUAGES, text);
}

/** Loads the texts of a language and makes it the current one, unless another one was requested in the meantime. */
export async function loadLanguage(wanted: Language): Promise<void> {
  requested = wanted;
  const loaded = await LOADED[wanted]();
  if (requested !== wanted) return;
  ({ texts, server } = loaded);
  language.set(wanted);
}
