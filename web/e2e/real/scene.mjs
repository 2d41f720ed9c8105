// Observes a session's page on a real server while the caller interrupts the server or the machine: node e2e/real/scene.mjs NAME
//
//   ANTEROOM_E2E_LINK   a session's link (viewer_url of POST /api/auth/start)
//
// It prints one JSON line when the desktop is live, reads one line after the interruption, and prints another one when the desktop is
// live again, without any click. Screenshots go to web/test-results/pages-NAME/ (../results.mjs).

import { join } from "node:path";
import { createInterface } from "node:readline";
import { CHROMIUM, getAsPage, launch, openDesktopTab, waitUntil } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const NAME = process.argv[2] ?? "scene";
const WAIT_MS_MAX = 60_000;

/**
 * Returns the background colour of the desktop; `null` while an overlay covers it.
 * @param {import("playwright-core").Page} page
 */
function background(page) {
  return page.evaluate(() => {
    if (document.querySelector("#panel-desktop .overlay") !== null) return null;
    const canvas = document.querySelector(".desktop-host canvas:not(.last-frame)");
    if (!(canvas instanceof HTMLCanvasElement) || canvas.width === 0) return null;
    const data = canvas.getContext("2d")?.getImageData(canvas.width - 1, canvas.height - 1, 1, 1).data;
    return data === undefined || data[3] === 0 ? null : `${data[0]},${data[1]},${data[2]}`;
  });
}

/** Reads the session's state. @param {import("playwright-core").Page} page */
async function state(page) {
  const id = new URL(page.url()).searchParams.get("session");
  return /** @type {import("../../src/api.ts").SessionView} */ (await getAsPage(page, `/api/auth/session/${id}`));
}

/** The deadlines and remaining times on the page. @param {import("playwright-core").Page} page */
function countdowns(page) {
  return page.$$eval(".countdown time", (times) =>
    times.map((time) => ({ until: time.getAttribute("datetime"), shown: time.textContent })),
  );
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const report = (/** @type {unknown} */ value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const browser = await launch(CHROMIUM);
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  /** @type {string[]} */
  const page_errors = [];
  page.on("pageerror", (error) => page_errors.push(error.message));
  const directory = await resultsDirectory(`pages-${NAME}`);
  // Records each message that the page shows while it is disconnected.
  await page.addInitScript(() => {
    const messages = new Set();
    Object.assign(window, { messages });
    new MutationObserver(() => {
      const text = document.querySelector("#panel-desktop .overlay strong")?.textContent;
      if (text) messages.add(text);
    }).observe(document, { childList: true, subtree: true, characterData: true });
  });
  await page.goto(LINK);
  await page.click("[data-action=log-in]");
  await page.click("[data-action=agree]", { timeout: WAIT_MS_MAX });
  await openDesktopTab(page);
  const before = await waitUntil("the desktop", () => background(page), WAIT_MS_MAX, 30);
  await waitUntil("the countdowns", async () => NAME === "watch" || (await countdowns(page)).length === 2);
  if (NAME === "watch") {
    const box = await page.locator(".desktop-host canvas").boundingBox();
    if (box === null) throw new Error("no canvas");
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await page.keyboard.type("hello");
  }
  await page.evaluate(() => /** @type {any} */ (window).messages.clear());
  report({ is: "shown", background: before, note: await page.textContent("[data-notice=view-only]", { timeout: 1_000 }).catch(() => null) });
  const { value: line } = await lines.next();
  if (line === undefined) throw new Error("standard input was closed before the interruption");
  if (NAME !== "watch") {
    // The page may have reconnected already: then it has recorded messages.
    await waitUntil("the lost connection", () => page.evaluate(() => /** @type {any} */ (window).messages.size), WAIT_MS_MAX, 30);
    await page.screenshot({ path: join(directory, "1-disconnected.png") });
  }
  const after = await waitUntil("the desktop again", () => background(page), WAIT_MS_MAX, 30);
  const reconnected_at_ms = Date.now();
  // The deadlines on the page must be those of the server's state. A heartbeat may change them between the two reads.
  const shown_countdowns = await waitUntil("the countdowns again", async () => {
    if (NAME === "watch") return [];
    const [shown, session] = [await countdowns(page), await state(page)];
    const isNear = (/** @type {string | null | undefined} */ one, /** @type {string | null} */ other) =>
      Math.abs(Date.parse(one ?? "") - Date.parse(other ?? "")) < 2_000;
    return isNear(shown[0]?.until, session.idle_deadline_at) && isNear(shown[1]?.until, session.deadline_at) ? shown : null;
  });
  const countdowns_at_ms = Date.now();
  await page.screenshot({ path: join(directory, "2-reconnected.png") });
  const replaced_notices = await page.locator("[data-notice=replaced]").count();
  const messages = await page.evaluate(() => [.../** @type {any} */ (window).messages]);
  report({ is: "back", reconnected_at_ms, countdowns_at_ms, background: after, messages, replaced_notices, countdowns: shown_countdowns, page_errors });
} finally {
  await browser.close();
}
process.exit(0);
