// The journeys, step by step, on any server: a real `anteroom serve`, or the stand-in that keeps these steps tested.

import assert from "node:assert/strict";
import { coloursOnDesktop, until } from "../browser.mjs";
import { centre, clickDesktop, colourAppears, darkPixels, findColour } from "./canvas.mjs";

/**
 * @typedef {object} Journey
 * @property {import("playwright-core").Page} page
 * @property {(label: string) => Promise<void>} shoot
 * @property {(line: string) => void} say
 * @property {number} slow_ms_max the longest wait for something in the machine
 */

/** The demo identity provider's pages (crates/demo/src/identity_provider/pages.rs): "Continue" and "Allow". */
const CONTINUE = { r: 0x1f, g: 0x4b, b: 0x99 };
const ALLOW = { r: 0x0a, g: 0x7d, b: 0x33 };
const CONTINUE_PIXELS_MIN = 2_000;
const ALLOW_PIXELS_MIN = 15_000;
/** How long a first way of doing something gets before the other one is tried. */
const FIRST_WAY_MS_MAX = 45_000;

/** The dashboard → the session's page. Returns the session's id. @param {Journey} journey @param {string} provider */
export async function pick({ page, shoot, say }, provider) {
  const card = page.locator(`[data-provider="${provider}"]`);
  await card.waitFor();
  await shoot("pick");
  assert.equal(await card.isDisabled(), false, `${provider} is not available: ${await card.textContent()}`);
  await card.click();
  await page.waitForURL(/\/dashboard\/remote-cli\/auth\?/);
  const id = new URL(page.url()).searchParams.get("session") ?? "";
  assert.match(id, /^ses_[0-9a-z]{26}$/);
  say(`session ${id}`);
  return id;
}

/** The session's state as the page's own cookie may read it. @param {Journey} journey @param {string} id */
export async function stateOf({ page }, id) {
  const response = await page.request.get(new URL(`/api/auth/session/${id}`, page.url()).href);
  return /** @type {import("../../src/api.ts").SessionView} */ (await response.json());
}

/** A live, non-blank desktop in the page. @param {Journey} journey */
export async function desktopIsThere({ page, shoot, say, slow_ms_max }) {
  const colours = await until(
    "a desktop that is not blank",
    async () => {
      const veiled = await page.locator("#panel-desktop .veil").count();
      const count = veiled === 0 ? await coloursOnDesktop(page) : 0;
      return count >= 3 ? count : 0;
    },
    slow_ms_max,
  );
  say(`the desktop shows ${colours === 64 ? "64 or more" : colours} colours`);
  await shoot("desktop");
}

/** "Connected", with the credential's files on the page and in the API. @param {Journey} journey @param {string} id */
export async function isConnected(journey, id) {
  const { page, shoot, say, slow_ms_max } = journey;
  const end = page.locator("main[data-status=completed], main[data-status=failed], main[data-status=expired], main[data-status=cancelled]");
  await end.waitFor({ timeout: slow_ms_max });
  await shoot("end");
  const status = await end.getAttribute("data-status");
  assert.equal(status, "completed", `the session ended as ${status}: ${await end.textContent()}`);
  assert.equal(await page.textContent("h1"), "Connected");
  await page.locator(".ended .files code").first().waitFor();
  const session = await stateOf(journey, id);
  assert.equal(session.status, "completed");
  assert.ok((session.credential?.files.length ?? 0) > 0, "the API shows the credential's files");
  say(`connected: ${session.credential?.files.map((file) => file.path).join(", ")}`);
}

/** The device code, read from the element itself: the page may take it away again soon. @param {Journey} journey */
async function seeCode({ page, shoot, say, slow_ms_max }) {
  const shown = await page.waitForSelector("[data-device-code]", { timeout: slow_ms_max });
  const code = await shown.getAttribute("data-device-code");
  say(`the device code has ${code?.length ?? 0} characters`);
  await shoot("code");
  return code;
}

/** Codex: the desktop is there, the device code is shown, the page ends connected. @param {Journey} journey */
export async function playCodex(journey) {
  const id = await pick(journey, "codex");
  // From the start and beside the desktop: a quick provider may take the code back soon.
  const code_seen = seeCode(journey).catch((/** @type {Error} */ error) => error);
  await desktopIsThere(journey);
  const code = await code_seen;
  if (code instanceof Error) throw code;
  assert.match(code ?? "", /^[A-Z0-9]{3,}(-[A-Z0-9]{3,})+$/);
  await isConnected(journey, id);
  return id;
}

/** The field lies above the button, in the page's middle. @param {import("./canvas.mjs").Patch} button */
function nameField(button) {
  const { x } = centre(button);
  return { left: x - 140, right: x + 140, top: button.top - 66, bottom: button.top - 34 };
}

/** Types a name into the sign-in page in the machine and goes on. @param {Journey} journey */
async function giveName(journey) {
  const { page, shoot, say, slow_ms_max } = journey;
  const button = await colourAppears(page, "the sign-in page on the desktop", CONTINUE, CONTINUE_PIXELS_MIN, slow_ms_max);
  say("the sign-in page is on the desktop");
  await shoot("sign-in");
  const field = nameField(button);
  const middle = { x: (field.left + field.right) / 2, y: (field.top + field.bottom) / 2 };
  await clickDesktop(page, middle.x, middle.y);
  const before = await darkPixels(page, field);
  await page.keyboard.type("Ada Lovelace", { delay: 40 });
  await until("the name in the field", async () => (await darkPixels(page, field)) > before + 60, slow_ms_max, 500);
  say("the name was typed");
  await shoot("name");
  await page.keyboard.press("Enter");
}

/** Waits for the consent page; when Enter did not lead there, clicks "Continue". @param {Journey} journey */
async function consentPage(journey) {
  const { page, say, slow_ms_max } = journey;
  const what = "the consent page on the desktop";
  try {
    return await colourAppears(page, what, ALLOW, ALLOW_PIXELS_MIN, Math.min(FIRST_WAY_MS_MAX, slow_ms_max));
  } catch {
    const button = await findColour(page, CONTINUE, CONTINUE_PIXELS_MIN);
    say(`no consent page yet; ${button === null ? "waiting on" : "clicking Continue"}`);
    if (button !== null) await clickDesktop(page, centre(button).x, centre(button).y);
    return colourAppears(page, what, ALLOW, ALLOW_PIXELS_MIN, slow_ms_max);
  }
}

/** Clicks "Allow" where it is on the canvas; when that does nothing, presses Enter on it. @param {Journey} journey */
async function allow(journey) {
  const { page, shoot, say, slow_ms_max } = journey;
  const button = await consentPage(journey);
  say("the consent page is on the desktop");
  await shoot("consent");
  const { x, y } = centre(button);
  await clickDesktop(page, x, y);
  const went_on = async () => (await findColour(page, ALLOW, ALLOW_PIXELS_MIN)) === null;
  await until("the consent page to go", went_on, Math.min(FIRST_WAY_MS_MAX, slow_ms_max), 500).catch(async () => {
    say("the click changed nothing yet; pressing Enter");
    await page.keyboard.press("Enter");
  });
}

/** Demo: sign in with the browser inside the machine, by pointer and keys on the canvas alone. @param {Journey} journey */
export async function playDemo(journey) {
  const id = await pick(journey, "demo");
  await desktopIsThere(journey);
  await giveName(journey);
  await allow(journey);
  await isConnected(journey, id);
  return id;
}
