// The steps of the journeys. They run on a real `anteroom serve`, and on the fake server that tests these steps.

import assert from "node:assert/strict";
import { coloursOnDesktop, getAsPage, openDesktopTab, waitUntil } from "../browser.mjs";
import { centre, clickDesktop, waitForColour, darkPixels, findColour } from "./canvas.mjs";

/**
 * @typedef {object} Journey
 * @property {import("playwright-core").Page} page
 * @property {(label: string) => Promise<void>} shoot
 * @property {(line: string) => void} log
 * @property {number} slow_ms_max the timeout of a step inside the machine
 */

/** The demo identity provider's pages (crates/demo/src/identity_provider/pages.rs): "Continue" and "Allow". */
const CONTINUE = { r: 0x1f, g: 0x4b, b: 0x99 };
const ALLOW = { r: 0x0a, g: 0x7d, b: 0x33 };
const CONTINUE_PIXELS_MIN = 2_000;
const ALLOW_PIXELS_MIN = 15_000;
/** The timeout of the first attempt, before an alternative is tried. */
const FIRST_ATTEMPT_MS_MAX = 45_000;

/** Starts a session on the start page and opens its page. Returns the session's id. @param {Journey} journey @param {string} provider */
export async function startSession({ page, shoot, log }, provider) {
  const card = page.locator(`[data-provider="${provider}"]`);
  await card.waitFor();
  await shoot("start");
  assert.equal(await card.isDisabled(), false, `${provider} is not available: ${await card.textContent()}`);
  await card.click();
  await page.waitForURL(/\/dashboard\/remote-cli\/auth\?/);
  const id = new URL(page.url()).searchParams.get("session") ?? "";
  assert.match(id, /^ses_[0-9a-z]{26}$/);
  log(`session ${id}`);
  return id;
}

/** Reads the session's state. @param {Journey} journey @param {string} id */
export async function stateOf({ page }, id) {
  return /** @type {import("../../src/api.ts").SessionView} */ (await getAsPage(page, `/api/auth/session/${id}`));
}

/** Opens the tab of the remote browser and waits until it shows a live desktop that is not blank. @param {Journey} journey */
export async function desktopIsLive({ page, shoot, log, slow_ms_max }) {
  await openDesktopTab(page);
  const colours = await waitUntil(
    "a desktop that is not blank",
    async () => {
      const overlays = await page.locator("#panel-desktop .overlay").count();
      const count = overlays === 0 ? await coloursOnDesktop(page) : 0;
      return count >= 3 ? count : 0;
    },
    slow_ms_max,
  );
  log(`the desktop shows ${colours === 64 ? "64 or more" : colours} colours`);
  await shoot("desktop");
}

/** Waits for "Connected"; checks the credential's files on the page and in the API. @param {Journey} journey @param {string} id */
export async function isConnected(journey, id) {
  const { page, shoot, log, slow_ms_max } = journey;
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
  log(`connected: ${session.credential?.files.map((file) => file.path).join(", ")}`);
}

/**
 * Waits for the device code and returns it. It is read from the element at once, because the page may remove it soon.
 * @param {Journey} journey
 */
async function readDeviceCode({ page, shoot, log, slow_ms_max }) {
  const shown = await page.waitForSelector("[data-device-code]", { timeout: slow_ms_max });
  const code = await shown.getAttribute("data-device-code");
  log(`the device code has ${code?.length ?? 0} characters`);
  await shoot("code");
  return code;
}

/** Codex: the desktop is live, the device code is shown, the page shows "Connected". @param {Journey} journey */
export async function runCodexJourney(journey) {
  const id = await startSession(journey, "codex");
  // Wait for the code and the desktop in parallel: if the provider is fast, the code is shown only briefly.
  const device_code = readDeviceCode(journey).catch((/** @type {Error} */ error) => error);
  await desktopIsLive(journey);
  const code = await device_code;
  if (code instanceof Error) throw code;
  assert.match(code ?? "", /^[A-Z0-9]{3,}(-[A-Z0-9]{3,})+$/);
  await isConnected(journey, id);
  return id;
}

/**
 * Opens a sign-in's address in a new tab, allows access there, and returns the code that the last page shows.
 * @param {Journey} journey
 * @param {string} address
 */
async function codeFromProvider({ page, log }, address) {
  const tab = await page.context().newPage();
  await tab.goto(address);
  await tab.click("form button");
  const code = (await tab.textContent("#text")) ?? "";
  log(`the last page shows ${code.length} characters`);
  await tab.close();
  return code;
}

/**
 * A tool that asks for the code of the provider's last page: the link is copied, the code pasted.
 * @param {Journey} journey
 * @param {string} provider
 */
export async function runPastedCodeJourney(journey, provider) {
  const { page, shoot, slow_ms_max } = journey;
  const id = await startSession(journey, provider);
  const address = await page.waitForSelector(".sign-in-address a", { timeout: slow_ms_max });
  await shoot("link");
  await page.click(".sign-in-address .copy");
  const copied = await waitUntil("the copied link", () => page.evaluate(() => navigator.clipboard.readText()));
  assert.equal(copied, await address.getAttribute("href"));
  const code = await codeFromProvider(journey, copied);
  await page.waitForSelector("[data-prompt=paste_code]", { timeout: slow_ms_max });
  await page.fill("#paste-code", code);
  await page.click(".paste-form button[type=submit]");
  await isConnected(journey, id);
  return id;
}

/** The area of the name field, which is above the button in the middle of the page. @param {import("./canvas.mjs").Patch} button */
function nameField(button) {
  const { x } = centre(button);
  return { left: x - 140, right: x + 140, top: button.top - 66, bottom: button.top - 34 };
}

/** Types a name into the sign-in page in the machine and submits it. @param {Journey} journey */
async function enterName(journey) {
  const { page, shoot, log, slow_ms_max } = journey;
  const button = await waitForColour(page, "the sign-in page on the desktop", CONTINUE, CONTINUE_PIXELS_MIN, slow_ms_max);
  log("the sign-in page is on the desktop");
  await shoot("sign-in");
  const field = nameField(button);
  const middle = { x: (field.left + field.right) / 2, y: (field.top + field.bottom) / 2 };
  await clickDesktop(page, middle.x, middle.y);
  const before = await darkPixels(page, field);
  await page.keyboard.type("Ada Lovelace", { delay: 40 });
  await waitUntil("the name in the field", async () => (await darkPixels(page, field)) > before + 60, slow_ms_max, 500);
  log("the name was typed");
  await shoot("name");
  await page.keyboard.press("Enter");
}

/** Waits for the consent page; clicks "Continue" if Enter did not open it. @param {Journey} journey */
async function waitForConsentPage(journey) {
  const { page, log, slow_ms_max } = journey;
  const name = "the consent page on the desktop";
  try {
    return await waitForColour(page, name, ALLOW, ALLOW_PIXELS_MIN, Math.min(FIRST_ATTEMPT_MS_MAX, slow_ms_max));
  } catch {
    const button = await findColour(page, CONTINUE, CONTINUE_PIXELS_MIN);
    log(`no consent page yet; ${button === null ? "waiting longer" : "clicking Continue"}`);
    if (button !== null) await clickDesktop(page, centre(button).x, centre(button).y);
    return waitForColour(page, name, ALLOW, ALLOW_PIXELS_MIN, slow_ms_max);
  }
}

/** Clicks "Allow" on the canvas; presses Enter if the click had no effect. @param {Journey} journey */
async function allowAccess(journey) {
  const { page, shoot, log, slow_ms_max } = journey;
  const button = await waitForConsentPage(journey);
  log("the consent page is on the desktop");
  await shoot("consent");
  const { x, y } = centre(button);
  await clickDesktop(page, x, y);
  const consent_closed = async () => (await findColour(page, ALLOW, ALLOW_PIXELS_MIN)) === null;
  await waitUntil("the consent page to close", consent_closed, Math.min(FIRST_ATTEMPT_MS_MAX, slow_ms_max), 500).catch(async () => {
    log("the click changed nothing yet; pressing Enter");
    await page.keyboard.press("Enter");
  });
}

/** Demo: sign in with the browser inside the machine, using only pointer and keys on the canvas. @param {Journey} journey */
export async function runDemoJourney(journey) {
  const id = await startSession(journey, "demo");
  await desktopIsLive(journey);
  await enterName(journey);
  await allowAccess(journey);
  await isConnected(journey, id);
  return id;
}
