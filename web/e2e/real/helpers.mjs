// Invites a helper on a session's page, lets the helper watch in another browser, and ends the helper's access: node e2e/real/helpers.mjs
//
//   ANTEROOM_E2E_LINK   a session's link (viewer_url of POST /api/auth/start)
//
// It prints one JSON line: what both pages showed. Screenshots go to web/test-results/helpers/.

import { join } from "node:path";
import { launch, openDesktopTab, waitUntil } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const WAIT_MS_MAX = 60_000;

/** @param {import("playwright-core").Page} page @param {string} selector */
const textOf = async (page, selector) => ((await page.textContent(selector, { timeout: WAIT_MS_MAX })) ?? "").trim();

/** @param {import("playwright-core").Page} page */
const desktopIsShown = async (page) => {
  await openDesktopTab(page);
  await page.waitForFunction(() => document.querySelector("#panel-desktop .overlay") === null && document.querySelector(".desktop-host canvas") !== null, null, { timeout: WAIT_MS_MAX });
};

const browser = await launch();
try {
  const directory = await resultsDirectory("helpers");
  const person = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  await person.goto(LINK);
  await person.click("[data-action=log-in]");
  await person.click("[data-action=agree]", { timeout: WAIT_MS_MAX });
  await desktopIsShown(person);
  await person.click("[data-invite] summary");
  await person.fill("[data-invite] input[name=helper]", "Grace");
  await person.click("[data-action=invite]");
  const invitation = await textOf(person, "[data-invitation] code");
  await person.waitForSelector("[data-helper=invited]", { timeout: WAIT_MS_MAX });

  // Another person: a context of its own has no cookie and no key of the first one.
  const helper = await (await browser.newContext({ viewport: { width: 390, height: 844 } })).newPage();
  await helper.goto(invitation);
  await helper.click("[data-action=log-in]");
  await desktopIsShown(helper);
  await person.waitForSelector("[data-helper=connected]", { timeout: WAIT_MS_MAX });
  const listed = await textOf(person, "[data-helper=connected]");
  const announced = await waitUntil("the announcement", () => textOf(person, "[data-helpers-announcement]"), WAIT_MS_MAX);
  const helper_sees = { list: await helper.locator("[data-helper]").count(), controls: await helper.locator("[data-action=cancel]").count() };
  await person.screenshot({ path: join(directory, "1-person.png"), fullPage: true });
  await person.setViewportSize({ width: 390, height: 844 });
  await person.screenshot({ path: join(directory, "2-person-phone.png"), fullPage: true });

  const began_ms = Date.now();
  await person.click("[data-action=end-helper]");
  await helper.waitForSelector("main[data-page=signed-out]", { timeout: WAIT_MS_MAX });
  const ended_after_ms = Date.now() - began_ms;
  const helper_title = await textOf(helper, "h1");
  await helper.screenshot({ path: join(directory, "3-helper.png"), fullPage: true });
  await waitUntil("the row to be removed", async () => (await person.locator("[data-helper]").count()) === 0, WAIT_MS_MAX);
  await helper.reload();
  await helper.waitForSelector("main[data-page=signed-out]", { timeout: WAIT_MS_MAX });
  process.stdout.write(`${JSON.stringify({ listed, announced, helper_sees, ended_after_ms, helper_title })}\n`);
} finally {
  await browser.close();
}
process.exit(0);
