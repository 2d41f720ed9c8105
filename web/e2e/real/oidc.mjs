// Signs people in on a real server with an OpenID provider: node e2e/real/oidc.mjs
//
//   ANTEROOM_E2E_BASE   the base of the server's links
//
// It reads one command as a line of JSON, does it in a browser, and prints what the page shows as a line of JSON:
//
//   {"do":"sign-in","person":NAME}   from the start page, as this person on the provider's page ("Deny": denies access)
//   {"do":"sign-in-elsewhere","person":NAME}   the same in a new profile, which neither server knows yet
//   {"do":"replay"}                  opens the address again that the provider sent the browser to last
//   {"do":"start"}                   starts a session of the provider "scripted" and returns to the start page
//   {"do":"sign-out"}                signs out, then at the provider
//
// Screenshots go to web/test-results/oidc/.

import { join } from "node:path";
import { createInterface } from "node:readline";
import { getAsPage, launch } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const BASE = process.env["ANTEROOM_E2E_BASE"] ?? "";
const START = `${BASE}/dashboard/remote-cli`;
const SIGNED_IN = "[data-provider]";
const PROBLEM = "[data-problem]";

const directory = await resultsDirectory("oidc");
const browser = await launch();
/** @type {string[]} */
const page_errors = [];
/** The address with the code, as the provider's redirect has it. */
let answer_url = "";
let context = await newProfile();
let page = await newPage();

/** A profile of the browser: cookies and storage of its own. */
function newProfile() {
  return browser.newContext({ viewport: { width: 1200, height: 800 } });
}

async function newPage() {
  const opened = await context.newPage();
  opened.setDefaultTimeout(60_000);
  opened.on("pageerror", (error) => page_errors.push(error.message));
  opened.on("response", (response) => {
    const location = response.headers()["location"];
    if (location?.includes("/sign-in/callback") === true) answer_url = location;
  });
  return opened;
}

let shots = 0;
/** Takes a screenshot and describes what the page shows. @param {string} name */
async function observe(name) {
  shots += 1;
  await page.screenshot({ path: join(directory, `${shots}-${name}.png`), fullPage: true });
  const note = page.locator(PROBLEM).first();
  const has_problem = (await note.count()) > 0;
  return {
    url: page.url(),
    problem: has_problem ? await note.getAttribute("data-problem") : null,
    text: (await page.locator("main").first().innerText().catch(() => "")) || (await page.innerText("body")),
    can_sign_in: (await page.locator("[data-action=oidc-sign-in]").count()) > 0,
    page_errors,
  };
}

/** @param {string} person */
async function signIn(person) {
  await page.goto(START);
  await page.click("[data-action=oidc-sign-in]");
  await page.getByRole("button", { name: person, exact: true }).click();
  await page.waitForSelector(`${SIGNED_IN}, ${PROBLEM}`);
  const seen = await observe(`sign-in-${person.toLowerCase().replace(/ /g, "-")}`);
  if (seen.problem !== null) return { ...seen, caller: null, sessions: 0 };
  return { ...seen, caller: await getAsPage(page, "/api/me"), sessions: await countSessions() };
}

/** @param {string} person */
async function signInElsewhere(person) {
  await context.close();
  context = await newProfile();
  page = await newPage();
  return signIn(person);
}

async function countSessions() {
  const list = /** @type {{ sessions: unknown[] }} */ (await getAsPage(page, "/api/sessions"));
  return list.sessions.length;
}

async function replay() {
  await page.goto("about:blank");
  await page.goto(answer_url);
  await page.waitForSelector(PROBLEM);
  return observe("replay");
}

async function start() {
  await page.goto(START);
  await page.click("[data-provider=scripted]");
  await page.waitForURL(/\/dashboard\/remote-cli\/auth\?/);
  await page.waitForSelector("main[data-page=auth]");
  const own = await observe("session");
  await page.goto(START);
  await page.waitForSelector("[data-session]");
  await observe("sessions");
  return { ...own, sessions: await countSessions() };
}

async function signOut() {
  await page.goto(START);
  await page.click("[data-action=log-out]");
  await page.waitForSelector("main[data-page=signed-out]");
  const signed_out = await observe("signed-out");
  await page.click("[data-action=end-session]");
  await page.waitForSelector("[data-action=oidc-sign-in]");
  const ended = await observe("ended-at-the-provider");
  // The provider has forgotten the browser, too: it asks again.
  await page.click("[data-action=oidc-sign-in]");
  await page.waitForSelector("button[name=subject]");
  return { ...signed_out, after_provider: ended.url, cookies: (await context.cookies(BASE)).length };
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  /** @type {Record<string, () => Promise<unknown>>} */
  const commands = {
    "sign-in": () => signIn(command.person),
    "sign-in-elsewhere": () => signInElsewhere(command.person),
    replay,
    start,
    "sign-out": signOut,
  };
  const run = commands[command.do];
  if (run === undefined) throw new Error(`unknown command ${line}`);
  process.stdout.write(`${JSON.stringify(await run())}\n`);
}
await browser.close();
process.exit(0);
