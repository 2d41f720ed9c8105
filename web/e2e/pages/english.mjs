// The English texts of the pages and of the server, to find those that a page in another language still shows.

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const web = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** Runs a module of the pages in Node. @param {string} source below src/ */
async function load(source) {
  const { outputFiles } = await build({ entryPoints: [join(web, "src", source)], bundle: true, platform: "node", format: "esm", write: false });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0]?.contents ?? []).toString("base64")}`);
}

/** A value that no text contains. */
const VALUE = "\u0001";

/** All texts of a catalogue, those of functions with values. @param {any} texts @returns {string[]} */
function allTexts(texts) {
  if (typeof texts === "string") return [texts];
  if (typeof texts === "function") return [texts(VALUE, VALUE, VALUE)];
  return texts === null || typeof texts !== "object" ? [] : Object.values(texts).flatMap(allTexts);
}

/** The parts of texts between their values that are long enough to be recognised. @param {string[]} texts */
const partsOf = (texts) => texts.flatMap((text) => text.split(/\{\w+\}|\u0001|NaN/)).map((part) => part.trim()).filter((part) => part.length >= 4);

const { en } = await load("texts/en.ts");
const { de } = await load("texts/de.ts");
const { ERROR_PAGE_TEXTS } = await load("texts/error-pages.ts");
const person_texts = JSON.parse(await readFile(join(web, "person-texts.json"), "utf8"));
const german = new Set(partsOf(allTexts([de.texts, ERROR_PAGE_TEXTS.de])));

/** Words of both languages. */
const english = [...new Set(partsOf(allTexts([en, ERROR_PAGE_TEXTS.en, person_texts])))].filter((part) => !german.has(part));

/**
 * Returns the English texts that a page shows, or gives to a screen reader.
 * @param {import("playwright-core").Page} page
 * @returns {Promise<string[]>}
 */
export async function englishTexts(page) {
  const shown = await page.evaluate(() => {
    const attributes = [...document.querySelectorAll("*")].flatMap((element) =>
      ["aria-label", "title", "alt", "placeholder"].map((name) => element.getAttribute(name) ?? ""),
    );
    return [document.title, document.body.innerText, ...attributes];
  });
  // A word inside of a longer one is not it: "Stop" in "Stopp".
  const escaped = (/** @type {string} */ part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return english.filter((part) => shown.some((text) => new RegExp(`(?<!\\p{L})${escaped(part)}(?!\\p{L})`, "iu").test(text)));
}
