// How a person uses a page: by mouse, by keyboard alone, by touch. In Chromium (Playwright) and in Firefox (Puppeteer), of whose
// pages only the methods are used that both have.

import assert from "node:assert/strict";
import { waitUntil } from "../browser.mjs";

/** @typedef {import("playwright-core").Page} Page */

/**
 * @typedef {object} Person
 * @property {(selector: string) => Promise<void>} press uses a button, a link or a tab
 * @property {(selector: string, text: string) => Promise<void>} type types into a field
 * @property {(text: string) => Promise<void>} typeIntoDesktop types into the open remote browser
 * @property {() => Promise<void>} checkFocus checks that the keyboard continues where the person was
 */

const CANVAS = ".desktop-host canvas:not(.last-frame)";
/** More than any page has. */
const STOPS_MAX = 60;

/** Each way in which a person uses a page. @type {Record<string, (page: Page) => Person>} */
export const WAYS = { mouse: byMouse, keyboard: byKeyboard, touch: byTouch };

/** @param {Page} page @returns {Person} */
function byMouse(page) {
  const press = (/** @type {string} */ selector) => page.locator(selector).click();
  return {
    press,
    type: async (selector, text) => {
      await press(selector);
      await page.keyboard.type(text);
    },
    typeIntoDesktop: async (text) => {
      await press(CANVAS);
      await page.keyboard.type(text);
    },
    checkFocus: async () => {},
  };
}

/** @param {Page} page @returns {Person} */
function byTouch(page) {
  const press = (/** @type {string} */ selector) => tap(page, selector);
  return {
    press,
    type: async (selector, text) => {
      await press(selector);
      await insertText(page, text);
    },
    typeIntoDesktop: async (text) => {
      await press(CANVAS);
      await press(".keys-bar .keyboard");
      await insertText(page, text);
    },
    checkFocus: async () => {},
  };
}

/** Taps the middle of an element, as soon as nothing covers it. @param {Page} page @param {string} selector */
async function tap(page, selector) {
  await page.waitForSelector(selector);
  const at = await waitUntil(`${selector} to be uncovered`, () => page.evaluate(uncoveredPoint, selector), 5_000, 20);
  await page.touchscreen.tap(at.x, at.y);
}

/** The middle of the part of an element that is in view; `null` if it is covered. It runs inside the page. @param {string} selector */
function uncoveredPoint(selector) {
  const element = document.querySelector(selector);
  element?.scrollIntoView({ block: "center", behavior: "instant" });
  const { left, top, right, bottom } = element?.getBoundingClientRect() ?? new DOMRect();
  const x = (Math.max(left, 0) + Math.min(right, window.innerWidth)) / 2;
  const y = (Math.max(top, 0) + Math.min(bottom, window.innerHeight)) / 2;
  return element?.contains(document.elementFromPoint(x, y)) === true ? { x, y } : null;
}

/** Types as an on-screen keyboard does, without keys. @param {Page} page @param {string} text */
async function insertText(page, text) {
  const puppeteer_keyboard = /** @type {{ sendCharacter?: (text: string) => Promise<void> }} */ (/** @type {unknown} */ (page.keyboard));
  if (puppeteer_keyboard.sendCharacter === undefined) return page.keyboard.insertText(text);
  for (const character of text) await puppeteer_keyboard.sendCharacter(character);
}

/** @param {Page} page @returns {Person} */
function byKeyboard(page) {
  return {
    press: async (selector) => {
      await tabAlong(page, selector);
      await page.keyboard.press("Enter");
    },
    type: async (selector, text) => {
      await tabAlong(page, selector);
      await page.keyboard.type(text);
    },
    typeIntoDesktop: async (text) => {
      await tabAlong(page, CANVAS);
      await page.keyboard.type(text);
      await withShift(page, "F6");
      assert.ok(await page.evaluate(() => document.activeElement?.closest("#desktop-tools") != null), "Shift+F6 leaves the desktop");
    },
    checkFocus: () => hasFocus(page),
  };
}

/** Waits until an element of the page has the focus. @param {Page} page */
async function hasFocus(page) {
  const on_element = () => page.evaluate(() => document.activeElement !== null && document.activeElement !== document.body);
  await waitUntil("the focus on an element", on_element, 2_000, 20).catch(async (error) => {
    throw new Error(`the focus is lost: ${await page.evaluate(() => document.querySelector("main")?.textContent ?? "")}`, { cause: error });
  });
}

/**
 * Moves the focus to an element with Tab, with Shift+Tab if it comes earlier, or with the arrow keys among tabs. Checks each stop: it is
 * in view, marked as focused, and follows the one before in the document.
 * @param {Page} page @param {string} selector
 */
async function tabAlong(page, selector) {
  await page.waitForSelector(selector);
  const start = await page.evaluate((wanted) => {
    const element = document.querySelector(wanted);
    const focused = document.activeElement ?? document.body;
    if (element === null || element === focused) return "there";
    if (focused === document.body) return "new page";
    if (element.matches("[role=tab][tabindex='-1']")) return "closed tab";
    return element.compareDocumentPosition(focused) & Node.DOCUMENT_POSITION_FOLLOWING ? "later" : "earlier";
  }, selector);
  if (start === "there") return;
  if (start === "closed tab") return arrowTo(page, selector);
  /** @type {string[]} */
  const stops = [];
  let goes_back = start === "later";
  while (stops.length < STOPS_MAX) {
    await (goes_back ? withShift(page, "Tab") : page.keyboard.press("Tab"));
    const stop = await page.evaluate(readStop, selector);
    if (start === "new page" && stops.length === 0) assert.match(stop.outline, /class="skip-link"/, "the first stop");
    assert.deepEqual(stop.faults, [], `after ${stops.at(-1)}`);
    stops.push(stop.outline);
    if (stop.is_wanted) return;
    if (!stop.takes_tab) continue;
    // Out of the terminal or the remote browser to what follows; from there to the tabs.
    await withShift(page, "F6");
    if (goes_back) await withShift(page, "F6");
    goes_back = false;
    if ((await page.evaluate(readStop, selector)).is_wanted) return;
  }
  throw new Error(`Tab does not lead to ${selector}: ${stops.join(", ")}`);
}

/** @param {Page} page @param {"Tab" | "F6"} key */
async function withShift(page, key) {
  await page.keyboard.down("Shift");
  await page.keyboard.press(key);
  await page.keyboard.up("Shift");
}

/** @param {Page} page @param {string} selector of a tab that is not open */
async function arrowTo(page, selector) {
  await tabAlong(page, "[role=tab][tabindex='0']");
  for (let count = 0; count < STOPS_MAX; count += 1) {
    await page.keyboard.press("ArrowRight");
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector)) return;
  }
  throw new Error(`the arrow keys do not lead to ${selector}`);
}

/** The stop of the keyboard, and what is wrong with it. It runs inside the page. @param {string} wanted the selector of the last stop */
function readStop(wanted) {
  const stop = document.activeElement ?? document.body;
  /** @type {string[]} */
  const faults = [];
  const outline = stop.outerHTML.slice(0, 110);
  if (stop.matches("[tabindex]") && /** @type {HTMLElement} */ (stop).tabIndex > 0) faults.push(`out of the document's order: ${outline}`);
  const { left, top, right, bottom, width, height } = stop.getBoundingClientRect();
  if (width === 0 || height === 0 || bottom <= 0 || right <= 0 || top >= window.innerHeight || left >= window.innerWidth) faults.push(`not in view: ${outline}`);
  /** @type {Element | null} */
  let marked = stop;
  const isMarked = (/** @type {CSSStyleDeclaration} */ style) => style.outlineStyle !== "none" && style.outlineWidth !== "0px";
  while (marked !== null && !isMarked(getComputedStyle(marked))) marked = marked.parentElement;
  if (marked === null) faults.push(`not marked as focused: ${outline}`);
  return { is_wanted: stop.matches(wanted), takes_tab: stop.closest(".focus-trap") !== null, outline, faults };
}
