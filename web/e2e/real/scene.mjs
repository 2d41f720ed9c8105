// One scene on a real server that something happens to, driven by whoever started this: node e2e/real/scene.mjs NAME
//
//   ANTEROOM_E2E_LINK   a session's link (viewer_url of POST /api/auth/start)
//
// It prints one JSON line when the desktop is on screen, reads one line when the thing has happened, and prints another when
// the page is back: by itself, nobody clicks. Screenshots go to web/test-results/pages-NAME/
// (../results.mjs).

import { join } from "node:path";
import { createInterface } from "node:readline";
import { launch, until } from "../browser.mjs";
import { resultsOf } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const NAME = process.argv[2] ?? "scene";
const WAIT_MS_MAX = 60_000;

/**
 * The background of the desktop as the canvas shows it, `null` while anything lies over it.
 * @param {import("playwright-core").Page} page
 */
function background(page) {
  return page.evaluate(() => {
    if (document.querySelector("#panel-desktop .veil") !== null) return null;
    const canvas = document.querySelector(".desktop-host canvas:not(.ghost)");
    if (!(canvas instanceof HTMLCanvasElement) || canvas.width === 0) return null;
    const data = canvas.getContext("2d")?.getImageData(canvas.width - 1, canvas.height - 1, 1, 1).data;
    return data === undefined || data[3] === 0 ? null : `${data[0]},${data[1]},${data[2]}`;
  });
}

/** The session as the page's own cookie may read it. @param {import("playwright-core").Page} page */
async function state(page) {
  const id = new URL(page.url()).searchParams.get("session");
  const response = await page.request.get(new URL(`/api/auth/session/${id}`, page.url()).href);
  return /** @type {import("../../src/api.ts").SessionView} */ (await response.json());
}

/** The deadlines that the page counts down to. @param {import("playwright-core").Page} page */
function countdowns(page) {
  return page.$$eval(".countdown time", (times) =>
    times.map((time) => ({ until: time.getAttribute("datetime"), shown: time.textContent })),
  );
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (/** @type {unknown} */ what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  const shots = await resultsOf(`pages-${NAME}`);
  // What the page says while it is away, each sentence once.
  await page.addInitScript(() => {
    const messages = new Set();
    Object.assign(window, { messages });
    new MutationObserver(() => {
      const text = document.querySelector("#panel-desktop .veil strong")?.textContent;
      if (text) messages.add(text);
    }).observe(document, { childList: true, subtree: true, characterData: true });
  });
  await page.goto(LINK);
  const before = await until("the desktop", () => background(page), WAIT_MS_MAX, 30);
  await until("the countdowns", async () => NAME === "watch" || (await countdowns(page)).length === 2);
  if (NAME === "watch") {
    const box = await page.locator(".desktop-host canvas").boundingBox();
    if (box === null) throw new Error("no canvas");
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await page.keyboard.type("hello");
  }
  await page.evaluate(() => /** @type {any} */ (window).messages.clear());
  say({ is: "shown", background: before, note: await page.textContent("[data-notice=view-only]", { timeout: 1_000 }).catch(() => null) });
  const { value: order } = await lines.next();
  if (order === undefined) throw new Error("nobody told this scene to go on");
  if (NAME !== "watch") {
    // What happened is over by now, and the page may be back already: then it has messages something meanwhile.
    await until("the loss", () => page.evaluate(() => /** @type {any} */ (window).messages.size), WAIT_MS_MAX, 30);
    await page.screenshot({ path: join(shots, "1-away.png") });
  }
  const after = await until("the desktop again", () => background(page), WAIT_MS_MAX, 30);
  const back_at_ms = Date.now();
  // The countdown is that of the server's state: a heartbeat may move it on between the two looks.
  const told = await until("the countdowns again", async () => {
    if (NAME === "watch") return [];
    const [shown, session] = [await countdowns(page), await state(page)];
    const near = (/** @type {string | null | undefined} */ one, /** @type {string | null} */ other) =>
      Math.abs(Date.parse(one ?? "") - Date.parse(other ?? "")) < 2_000;
    return near(shown[0]?.until, session.idle_deadline_at) && near(shown[1]?.until, session.deadline_at) ? shown : null;
  });
  const counted_at_ms = Date.now();
  await page.screenshot({ path: join(shots, "2-back.png") });
  const replaced = await page.locator("[data-notice=replaced]").count();
  const messages = await page.evaluate(() => [.../** @type {any} */ (window).messages]);
  say({ is: "back", back_at_ms, counted_at_ms, background: after, messages, replaced, countdowns: told, faults });
} finally {
  await browser.close();
}
process.exit(0);
