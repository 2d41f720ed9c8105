// Shows an external desktop on the session's page, on a real server, in a real browser. From the environment:
//
//   ANTEROOM_E2E_VIEWER_LINK  the session's link (`viewer_url` of `POST /api/auth/start`)
//   ANTEROOM_E2E_PASSWORD     the password of the desktop's server; empty: none
//   ANTEROOM_E2E_CLAIM        the name of the screenshots
//   ANTEROOM_E2E_AWAY         the message that the page must show while the desktop is not reachable. The caller stops the desktop
//                             after "SEEN" is printed and starts it again after "AWAY" is printed. Empty: it is not stopped
//
// The desktop is half one colour, half another, with a stripe (crates/testbed/tests/external/vnc_server.rs).

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { CHROMIUM, launch } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";
import { CANVAS, waitForColour } from "./canvas.mjs";

const LINK = process.env["ANTEROOM_E2E_VIEWER_LINK"] ?? "";
const PASSWORD = process.env["ANTEROOM_E2E_PASSWORD"] ?? "";
const CLAIM = process.env["ANTEROOM_E2E_CLAIM"] ?? "external";
const AWAY = process.env["ANTEROOM_E2E_AWAY"] ?? "";
const SLOW_MS_MAX = Number(process.env["ANTEROOM_E2E_SLOW_MS"] ?? 60_000);

const LEFT = { r: 0x20, g: 0x40, b: 0x60 };
const RIGHT = { r: 0xff, g: 0xee, b: 0xdd };
const STRIPE = { r: 0x0a, g: 0x7d, b: 0x33 };

/** @param {import("playwright-core").Page} page */
async function enterPassword(page) {
  const field = page.locator("[data-connection=credentials] input[name=password]");
  await field.fill("not-this");
  await page.keyboard.press("Enter");
  await page.getByText("The desktop rejected this sign-in. Try again.").waitFor();
  await field.fill(PASSWORD);
  await page.keyboard.press("Enter");
}

/** Checks the complete picture: 640 × 400, each colour in its area. @param {import("playwright-core").Page} page */
async function showsTestDesktop(page) {
  const left = await waitForColour(page, "the left half of the desktop", LEFT, 100_000, SLOW_MS_MAX);
  const right = await waitForColour(page, "the right half of the desktop", RIGHT, 100_000, SLOW_MS_MAX);
  const stripe = await waitForColour(page, "the stripe on the desktop", STRIPE, 30_000, SLOW_MS_MAX);
  assert.deepEqual([left.left, right.right, stripe.left, stripe.right], [0, 639, 0, 639]);
  assert.deepEqual([left.top, left.bottom, stripe.top, stripe.bottom], [0, 399, 100, 149]);
  const size = await page.locator(CANVAS).evaluate((canvas) => [
    /** @type {HTMLCanvasElement} */ (canvas).width,
    /** @type {HTMLCanvasElement} */ (canvas).height,
  ]);
  assert.deepEqual(size, [640, 400]);
}

test(`an external desktop is viewed through the page (${CLAIM})`, { timeout: SLOW_MS_MAX * 3 }, async () => {
  const browser = await launch(CHROMIUM);
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(SLOW_MS_MAX);
  page.on("pageerror", (error) => console.log(`page error: ${error.message}`));
  const shots = await resultsDirectory(`external-${CLAIM}`);
  try {
    await page.goto(LINK);
    await page.click("[data-action=log-in]");
    await page.click("[data-action=agree]");
    if (PASSWORD !== "") await enterPassword(page);
    await showsTestDesktop(page);
    await page.getByText("On the computer desk", { exact: true }).waitFor();
    await page.locator("[data-action=cancel]").waitFor();
    assert.equal(await page.locator("[data-action=restart]").count(), 0, "an external machine cannot be replaced");
    assert.equal(await page.locator("#tab-terminal").count(), 0, "an external machine has no terminal");
    assert.equal(await page.locator(".overlay").count(), 0, "there is no overlay");
    const text = (await page.textContent("body")) ?? "";
    assert.doesNotMatch(text, /127\.0\.0\.1/, "the page does not show the desktop's address");
    await page.screenshot({ path: join(shots, "desktop.png") });
    if (AWAY !== "") {
      console.log("SEEN");
      await page.locator(".overlay", { hasText: AWAY }).waitFor();
      await page.screenshot({ path: join(shots, "away.png") });
      console.log("AWAY");
      await page.locator(".overlay").waitFor({ state: "detached" });
      await showsTestDesktop(page);
    }
  } catch (error) {
    await page.screenshot({ path: join(shots, "failed.png") }).catch(() => undefined);
    throw error;
  } finally {
    await browser.close();
  }
});
