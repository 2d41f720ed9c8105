// What each page shows before its scripts run, and before the server has answered: accessible as every other state.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { CONTENT_SECURITY_POLICY } from "../fake-server/files.mjs";
import { accessibilityFaults, lowContrastTexts } from "./accessibility.mjs";
import { axeViolations } from "./axe.mjs";
import { PHONE, runScene } from "./scene.mjs";

const DIST = join(dirname(fileURLToPath(import.meta.url)), "../../dist");
const DARK_PHONE = /** @type {const} */ ({ viewport: PHONE, colorScheme: "dark", hasTouch: true, isMobile: true });
/** A page's address, and what it shows while it waits. */
const WAITING = /** @type {const} */ ([
  ["/dashboard/remote-cli", "main[data-page=start] [role=status]"],
  ["/dashboard/remote-cli/auth?session=ses_01jd0000000000000000000077", "main[data-status=loading]"],
  ["/dashboard/remote-cli/auth?session=ses_01jd0000000000000000000077#login_token=fresh-token", "main[data-status=loading]"],
  ["/admin", "main[data-page=loading]"],
]);
const ADMIN_PAGES = ["overview", "sessions", "connections", "machines", "hosts", "callers", "audit", "webhook"];

/** @param {import("playwright-core").Page} page @param {string} name */
async function isAccessible(page, name) {
  assert.deepEqual(await axeViolations(page), [], `axe-core on ${name}`);
  assert.deepEqual(await accessibilityFaults(page), [], name);
  assert.deepEqual(await lowContrastTexts(page), [], name);
}

test("the first content of every page, in every language, is accessible before a script runs", async () => {
  const files = (await readdir(DIST)).filter((file) => file.endsWith(".html"));
  assert.ok(files.includes("admin.html") && files.includes("session.de.html"), files.join());
  await runScene(DARK_PHONE, async ({ page, base }) => {
    await page.route("**/*.js", (route) => route.abort());
    for (const file of files) {
      const body = await readFile(join(DIST, file), "utf8");
      const headers = { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": CONTENT_SECURITY_POLICY };
      await page.route("**/first-content", (route) => route.fulfill({ headers, body }), { times: 1 });
      await page.goto(`${base}/first-content`);
      assert.match((await page.textContent("h1")) ?? "", /\S/, file);
      await isAccessible(page, file);
    }
  });
});

test("every page is accessible while it waits for the server's first answer", async () => {
  await runScene(DARK_PHONE, async ({ page, base }) => {
    // No answer comes.
    await page.route("**/api/**", () => undefined);
    for (const [path, shown] of WAITING) {
      await page.goto("about:blank");
      await page.goto(base + path);
      await page.waitForSelector(shown);
      await isAccessible(page, path);
    }
  });
});

test("every page for operators is accessible while its data has not arrived, and when nothing can be read", async () => {
  await runScene(DARK_PHONE, async ({ page, base }) => {
    await page.route("**/api/**", (route) => (new URL(route.request().url()).pathname === "/api/me" ? route.continue() : undefined));
    for (const name of ADMIN_PAGES) {
      await page.goto(`${base}/admin/${name === "overview" ? "" : name}`);
      await page.waitForSelector(`main[data-page=${name}] h1`);
      await isAccessible(page, name);
    }
    await page.route("**/api/me", (route) => route.fulfill({ status: 500, json: { code: "internal", sentence: "It failed.", remedy: "See the log.", for_person: "It failed.", close_code: 4500 } }));
    await page.goto(`${base}/admin`);
    await page.waitForSelector("[data-problem]");
    await isAccessible(page, "a failed answer");
  });
});
