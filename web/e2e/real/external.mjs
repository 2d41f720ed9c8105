// An external desktop through the session's page, on a real server, in a real browser. From the environment:
//
//   ANTEROOM_E2E_VIEWER_LINK  the session's link, as `POST /api/auth/start` gave it
//   ANTEROOM_E2E_PASSWORD     what that desktop's own server asks for; empty: nothing
//   ANTEROOM_E2E_CLAIM        names the screenshots
//   ANTEROOM_E2E_AWAY         what the page shall say when the desktop goes away; it goes when "SEEN" is printed and
//                             comes back when "AWAY" is. Empty: it stays
//
// The desktop is half one colour, half another, with a stripe (crates/testbed/tests/external/vnc_server.rs).

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { launch } from "../browser.mjs";
import { resultsOf } from "../results.mjs";
import { CANVAS, colourAppears } from "./canvas.mjs";

const LINK = process.env["ANTEROOM_E2E_VIEWER_LINK"] ?? "";
const PASSWORD = process.env["ANTEROOM_E2E_PASSWORD"] ?? "";
const CLAIM = process.env["ANTEROOM_E2E_CLAIM"] ?? "external";
const AWAY = process.env["ANTEROOM_E2E_AWAY"] ?? "";
const SLOW_MS_MAX = Number(process.env["ANTEROOM_E2E_SLOW_MS"] ?? 60_000);

const LEFT = { r: 0x20, g: 0x40, b: 0x60 };
const RIGHT = { r: 0xff, g: 0xee, b: 0xdd };
const STRIPE = { r: 0x0a, g: 0x7d, b: 0x33 };

/** @param {import("playwright-core").Page} page */
async function givePassword(page) {
  const field = page.locator("[data-connection=asked] input[name=password]");
  await field.fill("not-this");
  await page.keyboard.press("Enter");
  await page.getByText("It did not accept what was given before.").waitFor();
  await field.fill(PASSWORD);
  await page.keyboard.press("Enter");
}

/** The whole picture: each part fills its share of 640 × 400. @param {import("playwright-core").Page} page */
async function seesTheDesk(page) {
  const left = await colourAppears(page, "the desk's left half", LEFT, 100_000, SLOW_MS_MAX);
  const right = await colourAppears(page, "the desk's right half", RIGHT, 100_000, SLOW_MS_MAX);
  const stripe = await colourAppears(page, "the desk's stripe", STRIPE, 30_000, SLOW_MS_MAX);
  assert.deepEqual([left.left, right.right, stripe.left, stripe.right], [0, 639, 0, 639]);
  assert.deepEqual([left.top, left.bottom, stripe.top, stripe.bottom], [0, 399, 100, 149]);
  const size = await page.locator(CANVAS).evaluate((canvas) => [
    /** @type {HTMLCanvasElement} */ (canvas).width,
    /** @type {HTMLCanvasElement} */ (canvas).height,
  ]);
  assert.deepEqual(size, [640, 400]);
}

test(`an external desktop is viewed through the page (${CLAIM})`, { timeout: SLOW_MS_MAX * 3 }, async () => {
  const browser = await launch();
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(SLOW_MS_MAX);
  page.on("pageerror", (error) => console.log(`page error: ${error.message}`));
  const shots = await resultsOf(`external-${CLAIM}`);
  try {
    await page.goto(LINK);
    if (PASSWORD !== "") await givePassword(page);
    await seesTheDesk(page);
    await page.getByText("On the external machine desk", { exact: true }).waitFor();
    await page.locator("[data-action=cancel]").waitFor();
    assert.equal(await page.locator("[data-action=restart]").count(), 0, "there is no other machine to ask for");
    assert.equal(await page.locator("#tab-terminal").count(), 0, "this server has no terminal there");
    assert.equal(await page.locator(".veil").count(), 0, "nothing lies over the picture");
    const text = (await page.textContent("body")) ?? "";
    assert.doesNotMatch(text, /127\.0\.0\.1/, "no address is on the page");
    await page.screenshot({ path: join(shots, "desk.png") });
    if (AWAY !== "") {
      console.log("SEEN");
      await page.locator(".veil", { hasText: AWAY }).waitFor();
      await page.screenshot({ path: join(shots, "away.png") });
      console.log("AWAY");
      await page.locator(".veil").waitFor({ state: "detached" });
      await seesTheDesk(page);
    }
  } catch (error) {
    await page.screenshot({ path: join(shots, "failed.png") }).catch(() => undefined);
    throw error;
  } finally {
    await browser.close();
  }
});
