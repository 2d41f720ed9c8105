// Measures how long the pages take on a slow line, against the fake server: node e2e/measure.mjs [COUNT]
//
// Prints one line for each page: the medians over COUNT loads with an empty cache, at 1.5 Mbit/s with 150 ms and on loopback.

import { CHROMIUM, launch } from "./browser.mjs";
import { FakeServer } from "./fake-server/server.mjs";
import { inSeconds, signIn } from "./fake-server/samples.mjs";

const COUNT = Number(process.argv[2] ?? 5);
const SLOW = { offline: false, latency: 150, downloadThroughput: 1_500_000 / 8, uploadThroughput: 750_000 / 8 };

/** @param {number[]} values */
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

/**
 * @param {import("playwright-core").Browser} browser @param {string} url @param {string} own selector of the page's own content
 * @param {typeof SLOW | null} line
 */
async function load(browser, url, own, line) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const devtools = await context.newCDPSession(page);
  await devtools.send("Network.enable");
  if (line !== null) await devtools.send("Network.emulateNetworkConditions", line);
  const started = performance.now();
  await page.goto(url, { waitUntil: "commit" });
  await page.waitForSelector(own, { timeout: 60_000 });
  const own_ms = performance.now() - started;
  const paint_ms = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN);
  await context.close();
  return { own_ms, paint_ms };
}

const fakeServer = new FakeServer();
const base = await fakeServer.listen();
const browser = await launch(CHROMIUM);
try {
  const sign_in = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(3_000) });
  const { id } = fakeServer.add({ status: "authenticating", sign_in });
  const in_desktop = fakeServer.add({ status: "authenticating", lanes: ["desktop"] });
  const page_of = (/** @type {string} */ one) => `${base}/dashboard/remote-cli/auth?session=${one}`;
  for (const [name, url, own] of /** @type {const} */ ([
    ["start page: tools", `${base}/dashboard/remote-cli`, "[data-provider]"],
    ["session: link", page_of(id), ".device-code"],
    ["session: picture", page_of(in_desktop.id), ".desktop-host canvas"],
  ])) {
    for (const [line_name, line] of /** @type {const} */ ([["loopback", null], ["1.5 Mbit/s, 150 ms", SLOW]])) {
      const loads = [];
      for (let count = 0; count < COUNT; count += 1) loads.push(await load(browser, url, own, line));
      const [own_ms, paint_ms] = [median(loads.map((one) => one.own_ms)), median(loads.map((one) => one.paint_ms))];
      console.log(`${name}, ${line_name}: first content ${Math.round(paint_ms)} ms, own content ${Math.round(own_ms)} ms`);
    }
  }
} finally {
  await browser.close();
  await fakeServer.close();
}
