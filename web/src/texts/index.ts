// The texts of the person's pages in the person's language. English is in the scripts of the pages; another language is loaded when a page
// needs it. `texts` changes with the language: read it where a component renders, not when a module is loaded.

import { Store } from "../store";
import { en } from "./en";

/** The languages, by the name that each has for itself. */
export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;

/** The texts and functions of a catalogue, with any texts. */
type Translation<T> = T extends string
  ? string
  : T extends (...values: infer Values) => string
    ? (...values: Values) => string
    : { readonly [Name in keyof T]: Translation<T[Name]> };
export type Texts = Translation<typeof en>;

const LOADED: Record<Language, () => Promise<Texts>> = {
  en: () => Promise.resolve(en),
  de: () => import("./de").then(({ de }) => de),
};

/** The texts in the current language. */
export let texts: Texts = en;
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
  if (requested === wanted) setTexts(wanted, loaded);
}

/** Makes a language with these texts the current one. */
export function setTexts(current: Language, loaded: Texts): void {
  texts = loaded;
  language.set(current);
}
