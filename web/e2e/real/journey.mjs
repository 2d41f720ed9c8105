// Runs a journey on a real `anteroom serve`, in a real browser. From the environment:
//
//   ANTEROOM_E2E_LINK     the single-use link that `anteroom serve` printed (http://…/login#login_token=…)
//   ANTEROOM_E2E_TOKEN    an operator's API token, to create a new link if that one was used, and to log the cause of a failure
//   ANTEROOM_E2E_SLOW_MS  the longest wait for something in the machine (default 120000; emulated machines are slow)
//   ANTEROOM_E2E_HOSTS    stand-ins of identity providers for this browser: name:port=address:port,… (certificates are not checked)
//
// Screenshots go to web/test-results/journey-NAME/ (../results.mjs).

import { join } from "node:path";
import test from "node:test";
import { CHROMIUM, launch } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const TOKEN = process.env["ANTEROOM_E2E_TOKEN"] ?? "";
const SLOW_MS_MAX = Number(process.env["ANTEROOM_E2E_SLOW_MS"] ?? 120_000);
const HOSTS = (process.env["ANTEROOM_E2E_HOSTS"] ?? "").split(",").filter((one) => one !== "");
/** A journey has several slow waits. */
const JOURNEY_MS_MAX = SLOW_MS_MAX * 6;

/** @param {string} path @param {RequestInit} [init] */
async function withToken(path, init = {}) {
  // Only browsers resolve names below `localhost`.
  const url = new URL(path, LINK);
  if (url.hostname.endsWith(".localhost")) url.hostname = "127.0.0.1";
  const response = await fetch(url, {
    ...init,
    headers: { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json", "X-Anteroom": "1" },
  });
  return { status: response.status, body: await response.text() };
}

/** Opens the link; when it was used before, one that the token makes. @param {import("playwright-core").Page} page */
async function signIn(page) {
  const arrived = () => page.waitForSelector("[data-provider], [data-problem]");
  await page.goto(LINK);
  await page.click("[data-action=log-in]");
  await arrived();
  const refused = await page.locator("[data-problem]").count();
  if (refused === 0) return;
  const problem = await page.textContent("[data-problem]");
  if (TOKEN === "") throw new Error(`the link does not work and there is no ANTEROOM_E2E_TOKEN to create another: ${problem}`);
  const created = await withToken("/api/links", { method: "POST", body: "{}" });
  if (created.status !== 200) throw new Error(`no new link could be created: ${created.status} ${created.body}`);
  await page.goto(JSON.parse(created.body).url);
  await page.click("[data-action=log-in]");
  await page.waitForSelector("[data-provider]");
}

/** Logs the server's state of a journey that failed. @param {string} address of the page @param {(line: string) => void} log */
async function logDiagnosis(address, log) {
  const id = /[?&]session=([^&#]+)/.exec(address)?.[1];
  if (id === undefined || TOKEN === "") return;
  for (const path of ["", "/diagnosis", "/events"]) {
    const answer = await withToken(`/api/auth/session/${id}${path}`).catch((error) => ({ status: 0, body: String(error) }));
    log(`GET …${path}: ${answer.status} ${answer.body.slice(0, 6_000)}`);
  }
}

/**
 * @param {string} name of the screenshots
 * @param {string} claim
 * @param {(journey: import("./play.mjs").Journey) => Promise<unknown>} run
 */
export function journey(name, claim, run) {
  const skip = LINK === "" ? "ANTEROOM_E2E_LINK is not set" : false;
  test(claim, { skip, timeout: JOURNEY_MS_MAX }, async () => {
    const started_ms = Date.now();
    const log = (/** @type {string} */ line) => console.log(`${name} ${((Date.now() - started_ms) / 1000).toFixed(1)} s: ${line}`);
    const rules = HOSTS.map((one) => `MAP ${one.replace("=", " ")}`).join(",");
    const browser = await launch(CHROMIUM, HOSTS.length === 0 ? [] : [`--host-resolver-rules=${rules}`]);
    const context = await browser.newContext({
      viewport: { width: 1400, height: 900 },
      permissions: ["clipboard-read", "clipboard-write"],
      ignoreHTTPSErrors: HOSTS.length > 0,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(SLOW_MS_MAX);
    page.on("pageerror", (error) => log(`page error: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error") log(`console: ${message.text()}`);
    });
    const directory = await resultsDirectory(`journey-${name}`);
    let count = 0;
    const shoot = async (/** @type {string} */ label) => {
      count += 1;
      await page.screenshot({ path: join(directory, `${count}-${label}.png`) });
    };
    try {
      await signIn(page);
      await run({ page, shoot, log, slow_ms_max: SLOW_MS_MAX });
    } catch (error) {
      await shoot("failed").catch(() => undefined);
      await logDiagnosis(page.url(), log);
      throw error;
    } finally {
      await browser.close();
    }
  });
}
