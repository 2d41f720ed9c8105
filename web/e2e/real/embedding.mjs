// Connects a tool through the page of an example backend, in a frame, in a popup and in a tab: node e2e/real/embedding.mjs
//
//   ANTEROOM_E2E_SITE        the example's address
//   ANTEROOM_E2E_SIGNED_IN   a file; the tool signs in as soon as it exists
//
// It prints one line of JSON: for each, what the example shows at the end and the messages and cookies that there were.
// Screenshots go to web/test-results/embedding/.

import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { launch } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const SITE = process.env["ANTEROOM_E2E_SITE"] ?? "";
const SIGNED_IN = process.env["ANTEROOM_E2E_SIGNED_IN"] ?? "";
const directory = await resultsDirectory("embedding");
const browser = await launch();

/**
 * The page of the session, wherever the example has opened it.
 * @param {import("playwright-core").Page} site
 * @param {string} kind
 */
async function openSession(site, kind) {
  if (kind === "popup") {
    const [popup] = await Promise.all([site.waitForEvent("popup"), site.click("#popup")]);
    return popup;
  }
  await site.click(`#${kind}`);
  return kind === "frame" ? site.frameLocator("iframe") : site;
}

/** @param {string} kind */
async function connect(kind) {
  await rm(SIGNED_IN, { force: true });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(60_000);
  /** @type {string[]} */
  const page_errors = [];
  context.on("weberror", (error) => page_errors.push(error.error().message));
  const site = await context.newPage();
  await site.goto(SITE);
  await site.evaluate(() => {
    const target = /** @type {any} */ (window);
    target.messages = [];
    window.addEventListener("message", (event) => target.messages.push(event.data.type));
  });
  const session = await openSession(site, kind);
  await session.locator("[data-action=log-in]").click();
  await session.locator("[data-action=agree]").click();
  await session.locator("[data-status=vm_started], [data-status=authenticating]").first().waitFor();
  await site.screenshot({ path: join(directory, `${kind}-open.png`) });
  const cookies = (await context.cookies()).map((cookie) =>
    [cookie.sameSite, .../** @type {any} */ (cookie).partitionKey === undefined ? [] : ["partitioned"], ...(cookie.secure ? ["secure"] : [])].join(", "),
  );
  await writeFile(SIGNED_IN, "");
  await site.locator("#status", { hasText: /onnected/ }).waitFor();
  await site.screenshot({ path: join(directory, `${kind}-end.png`) });
  const status = await site.locator("#status").innerText();
  const messages = await site.evaluate(() => /** @type {any} */ (window).messages ?? []);
  await context.close();
  return { opened: kind, status, messages, cookies, page_errors };
}

try {
  const opened = [];
  for (const kind of ["frame", "popup", "page"]) opened.push(await connect(kind));
  console.log(JSON.stringify(opened));
} finally {
  await browser.close();
}
