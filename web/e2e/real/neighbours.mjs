// Signs a browser in with an operator's link, then leads it to another program on the same host: node e2e/real/neighbours.mjs
//
//   ANTEROOM_E2E_LINK   an operator's link
//
// It prints one JSON line: the cookies that the other program received, and what the server answers to the cookie without its browser.

import { createServer, request } from "node:http";
import { join } from "node:path";
import { CHROMIUM, launch } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const base = new URL(LINK);

/** @type {Record<string, string[]>} cookies that the other program received, by host name */
const received = {};
const neighbour = createServer((incoming, response) => {
  const host = (incoming.headers.host ?? "").replace(/:\d+$/, "");
  received[host] = [...(received[host] ?? []), incoming.headers.cookie ?? ""];
  response.setHeader("Content-Type", "text/html");
  response.end("<title>neighbour</title>");
});
await new Promise((done) => neighbour.listen(0, "127.0.0.1", () => done(undefined)));
const address = neighbour.address();
if (address === null || typeof address === "string") throw new Error("no address");
const port = address.port;

/** The status of a request to the server. @param {string} method @param {Record<string, string>} headers @param {string} path @returns {Promise<number>} */
function statusOf(method, path, headers) {
  return new Promise((done, failed) => {
    const sent = request(
      { host: "127.0.0.1", port: base.port, method, path, headers: { Host: base.host, "Content-Type": "application/json", ...headers } },
      (response) => {
        response.resume();
        done(response.statusCode ?? 0);
      },
    );
    sent.on("error", failed);
    sent.end(method === "GET" ? undefined : "{}");
  });
}

const browser = await launch(CHROMIUM);
try {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(LINK);
  await page.click("[data-action=log-in]");
  await page.waitForSelector("[data-provider]");
  const directory = await resultsDirectory("neighbours");
  await page.screenshot({ path: join(directory, "start.png"), fullPage: true });
  const [cookie] = await context.cookies(base.origin);
  if (cookie === undefined) throw new Error("the browser has no cookie");
  const key = await page.evaluate(() => localStorage.getItem("browser_key") ?? "");
  for (const name of ["127.0.0.1", "localhost", base.hostname]) {
    const thief = await context.newPage();
    // As if its address was typed, then requested by its own script: SameSite does not distinguish ports.
    await thief.goto(`http://${name}:${port}/`);
    await thief.evaluate(() => fetch("/again").then((response) => response.text()));
    await thief.close();
  }
  const sent = { Cookie: `${cookie.name}=${cookie.value}` };
  const answers = {
    own_browser: await statusOf("GET", "/api/me", { ...sent, "X-Anteroom": key }),
    cookie_alone: await statusOf("GET", "/api/me", sent),
    cookie_with_guard: await statusOf("POST", "/api/links", { ...sent, "X-Anteroom": "1", Origin: base.origin }),
    cookie_with_another_key: await statusOf("GET", "/api/me", { ...sent, "X-Anteroom": key.replace(/./g, "0") }),
    cookie_as_bearer: await statusOf("GET", "/api/me", { Authorization: `Bearer ${cookie.value}` }),
    cookie_as_bearer_with_key: await statusOf("GET", "/api/me", { Authorization: `Bearer ${cookie.value}`, "X-Anteroom": key }),
  };
  await page.bringToFront();
  await page.click("[data-action=log-out]");
  await page.waitForSelector("main[data-page=signed-out]");
  const after_sign_out = await statusOf("GET", "/api/me", { ...sent, "X-Anteroom": key });
  const cookies_left = (await context.cookies(base.origin)).length;
  process.stdout.write(`${JSON.stringify({ host: base.hostname, received, answers, after_sign_out, cookies_left })}\n`);
} finally {
  await browser.close();
  neighbour.close();
}
process.exit(0);
