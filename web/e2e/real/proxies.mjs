// Uses the pages of a real server through a reverse proxy: node e2e/real/proxies.mjs
//
//   ANTEROOM_E2E_FLAGS   more flags of Chromium, as a JSON array
//
// It reads one command as a line of JSON, does it in a browser, and prints what it found as a line of JSON:
//
//   {"do":"open","link":URL}            opens a link in a new browser profile
//   {"do":"open-again","link":URL}      opens a link in the same tab
//   {"do":"company"}                    signs in on the proxy's own page
//   {"do":"enter"}                      uses the link and agrees, until the session's page is shown
//   {"do":"wait","selector":S}          waits for an element; returns its text and how long it took
//   {"do":"open-desktop"}               opens the remote browser's tab
//   {"do":"desktop"}                    opens the remote browser's tab and waits until it shows a picture
//   {"do":"desktop-state"}              returns the colours of the picture and the texts that have covered it
//   {"do":"paste-link","link":URL}      pastes a link into the page that has lost one
//   {"do":"paste","text":T}             pastes a text for the tool
//   {"do":"sign-in"}                    signs in to the demo in another tab, until the page says that it is connected
//
// Screenshots go to web/test-results/proxies/.

import { join } from "node:path";
import { createInterface } from "node:readline";
import { CHROMIUM, coloursOnDesktop, getAsPage, launch, openDesktopTab, waitUntil } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const directory = await resultsDirectory("proxies");
const browser = await launch(CHROMIUM, JSON.parse(process.env["ANTEROOM_E2E_FLAGS"] ?? "[]"));
const WAIT_MS_MAX = 30_000;

let context = await browser.newContext();
let page = await context.newPage();
/** @type {string[]} */
let page_errors = [];
let shots = 0;

async function open(/** @type {{ link: string }} */ { link }) {
  await context.close();
  context = await browser.newContext({ viewport: { width: 1300, height: 900 } });
  context.setDefaultTimeout(WAIT_MS_MAX);
  page_errors = [];
  context.on("weberror", (error) => page_errors.push(error.error().message));
  page = await context.newPage();
  // Records each text that covers the desktop.
  await page.addInitScript(() => {
    const covers = new Set();
    Object.assign(window, { covers });
    new MutationObserver(() => {
      const text = document.querySelector("#panel-desktop .overlay strong")?.textContent;
      if (text) covers.add(text);
    }).observe(document, { childList: true, subtree: true, characterData: true });
  });
  const response = await page.goto(link);
  return { status: response?.status() ?? 0, text: await page.innerText("body") };
}

async function enter() {
  await page.click("[data-action=log-in]");
  await page.click("[data-action=agree]");
  await page.waitForSelector("main[data-status=vm_started], main[data-status=authenticating]");
  return {};
}

async function wait(/** @type {{ selector: string }} */ { selector }) {
  const began_ms = Date.now();
  const element = page.locator(selector).first();
  await element.waitFor();
  return { text: await element.innerText(), took_ms: Date.now() - began_ms };
}

async function desktop() {
  await openDesktopTab(page);
  const colours = await waitUntil("a picture", async () => {
    const covered = await page.locator("#panel-desktop .overlay").count();
    return covered === 0 ? coloursOnDesktop(page) : 0;
  }, WAIT_MS_MAX);
  await page.evaluate(() => /** @type {any} */ (window).covers.clear());
  return { colours };
}

async function desktopState() {
  const covers = await page.evaluate(() => [.../** @type {any} */ (window).covers]);
  return { colours: await coloursOnDesktop(page), covers };
}

async function signIn() {
  const id = new URL(page.url()).searchParams.get("session");
  const url = await waitUntil("the sign-in address", async () => {
    const session = /** @type {import("../../src/api.ts").SessionView} */ (await getAsPage(page, `/api/auth/session/${id}`));
    return session.sign_in.url ?? session.sign_in.browser_url;
  }, WAIT_MS_MAX);
  const tab = await page.context().newPage();
  await tab.goto(url);
  await tab.fill("input[name=name]", "Ada");
  await tab.click("button.next");
  await tab.click("button.allow");
  await page.waitForSelector("main[data-status=completed]");
  await tab.close();
  return { text: await page.innerText("h1") };
}

/** @type {Record<string, (command: any) => Promise<object>>} */
const commands = {
  open,
  enter,
  wait,
  desktop,
  "desktop-state": desktopState,
  "sign-in": signIn,
  "open-again": async ({ link }) => {
    await page.goto(link);
    return {};
  },
  "open-desktop": async () => {
    await openDesktopTab(page);
    return {};
  },
  company: async () => {
    await page.click("#company");
    return {};
  },
  "paste-link": async ({ link }) => {
    await page.fill("#paste-link", link);
    await page.click(".paste-link button[type=submit]");
    return {};
  },
  paste: async ({ text }) => {
    await page.fill("#paste-code", text);
    await page.press("#paste-code", "Enter");
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const run = commands[command.do];
  if (run === undefined) throw new Error(`unknown command ${line}`);
  try {
    const found = await run(command);
    process.stdout.write(`${JSON.stringify({ ...found, url: page.url(), page_errors })}\n`);
  } catch (error) {
    shots += 1;
    await page.screenshot({ path: join(directory, `${shots}-failed.png`) }).catch(() => undefined);
    const text = await page.innerText("body").catch(() => "");
    throw new Error(`${line}: ${error}\n${page.url()}\n${text}`);
  }
}
await browser.close();
process.exit(0);
