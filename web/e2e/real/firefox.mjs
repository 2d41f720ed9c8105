// Signs a tool in on a session's page in Firefox, in the tool's terminal: node e2e/real/firefox.mjs
//
//   ANTEROOM_E2E_LINK   a session's link (viewer_url of POST /api/auth/start)
//   ANTEROOM_E2E_LINE   what the tool reads
//
// It prints one JSON line: what the page showed. A screenshot goes to web/test-results/firefox/.

import { join } from "node:path";
import { coloursOnDesktop, waitUntil } from "../browser.mjs";
import { asPlaywright, launchFirefox } from "../firefox.mjs";
import { resultsDirectory } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const LINE = process.env["ANTEROOM_E2E_LINE"] ?? "";
const WAIT_MS_MAX = 60_000;

const browser = await launchFirefox();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(WAIT_MS_MAX);
  await page.setViewport({ width: 1280, height: 800 });
  /** @type {string[]} */
  const page_errors = [];
  page.on("pageerror", (error) => page_errors.push(error instanceof Error ? error.message : String(error)));
  await page.goto(LINK);
  await page.locator("[data-action=log-in]").click();
  await page.locator("[data-action=agree]").click();
  await page.locator("#tab-desktop").click();
  const colours = await waitUntil("the desktop", () => coloursOnDesktop(asPlaywright(page)), WAIT_MS_MAX);
  await page.locator("#tab-terminal").click();
  await page.waitForSelector(".xterm-rows ::-p-text(Type the word)");
  await page.locator(".terminal-host").click();
  await page.keyboard.type(LINE);
  await page.keyboard.press("Enter");
  await page.waitForSelector("main[data-status=completed]");
  await page.screenshot({ path: join(await resultsDirectory("firefox"), "end.png") });
  const heading = await page.$eval("h1", (element) => element.textContent);
  process.stdout.write(`${JSON.stringify({ colours, heading, page_errors })}\n`);
} finally {
  await browser.close();
}
process.exit(0);
