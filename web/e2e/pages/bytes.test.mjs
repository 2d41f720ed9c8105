// What a page loads before it is usable: the requests, their bytes, and whether anything moves.

import assert from "node:assert/strict";
import test from "node:test";
import { addSessions } from "./admin-states.mjs";
import { forPerson, inSeconds, signIn } from "../fake-server/samples.mjs";
import { desktopShows, PHONE, runScene, sessionShows, statusIs, WIDE } from "./scene.mjs";

/** Bytes of files as they are sent, compressed by brotli, without the heads of the responses. */
const BYTES_BEFORE_LANE_MAX = 40_000;
const BYTES_DESKTOP_MAX = 110_000;
const BYTES_ADMIN_MAX = 60_000;
/** The cumulative layout shift. */
const SHIFT_MAX = 0.02;

/**
 * Records what a page loads.
 * @param {import("playwright-core").Page} page
 */
async function recordLoads(page) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  /** @type {Map<string, { url: string, bytes: number }>} */
  const loads = new Map();
  const addBytes = (/** @type {string} */ id, /** @type {number} */ bytes) => {
    const load = loads.get(id);
    if (load !== undefined) load.bytes += bytes;
  };
  devtools.on("Network.requestWillBeSent", ({ requestId, request }) => {
    if (!request.url.startsWith("data:")) loads.set(requestId, { url: request.url, bytes: 0 });
  });
  // First the bytes of the head are subtracted, then those of the whole response are added.
  devtools.on("Network.responseReceived", ({ requestId, response }) => addBytes(requestId, -response.encodedDataLength));
  devtools.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => addBytes(requestId, encodedDataLength));
  await page.addInitScript(() => {
    const shifts = { sum: 0, moved: /** @type {string[]} */ ([]) };
    Object.assign(window, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of /** @type {(PerformanceEntry & { value: number, hadRecentInput: boolean, sources: { node: Element | null }[] })[]} */ (list.getEntries())) {
        if (entry.hadRecentInput) continue;
        shifts.sum += entry.value;
        shifts.moved.push(`${entry.value.toFixed(4)} ${entry.sources.map(({ node }) => node?.className || node?.nodeName).join(", ")}`);
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  const files = () => [...loads.values()].filter(({ url }) => !/^\/(api|health)\b/.test(new URL(url).pathname) || url.endsWith("/novnc"));
  return {
    urls: () => [...loads.values()].map(({ url }) => url),
    names: () => files().map(({ url }) => new URL(url).pathname),
    bytes: () => files().reduce((sum, { bytes }) => sum + bytes, 0),
    shifts: () => page.evaluate(() => /** @type {any} */ (window).shifts),
  };
}

/** @param {Awaited<ReturnType<typeof recordLoads>>} loads @param {string} base @param {number} bytes_max @param {string} name */
async function checkLoads(loads, base, bytes_max, name) {
  for (const url of loads.urls()) assert.ok(url.startsWith(`${base}/`), `${name}: a request to another host: ${url}`);
  const names = loads.names();
  assert.deepEqual(names, [...new Set(names)], `${name}: each file once`);
  const { sum, moved } = await loads.shifts();
  console.log(`${name}: ${names.length} files, ${loads.bytes()} bytes, shift ${sum.toFixed(4)}`);
  assert.ok(loads.bytes() > 10_000, `${name}: the bytes were measured`);
  assert.ok(loads.bytes() <= bytes_max, `${name}: ${loads.bytes()} bytes, at most ${bytes_max}: ${names.join(" ")}`);
  assert.ok(sum <= SHIFT_MAX, `${name}: the page moves by ${sum}: ${moved.join("; ")}`);
}

const DEVICES = /** @type {const} */ ([
  ["wide", { viewport: WIDE }],
  ["laptop", { viewport: { width: 1280, height: 800 } }],
  ["phone", { viewport: PHONE, hasTouch: true, isMobile: true }],
]);

for (const [device, options] of DEVICES) {
  test(`${device}: no page loads more than 40 kB before a lane opens, nor anything of another host, and nothing moves`, async () => {
    await runScene(options, async ({ page, base }) => {
      const loads = await recordLoads(page);
      await page.goto(`${base}/dashboard/remote-cli`);
      await page.waitForSelector("[data-credential]");
      await page.waitForLoadState("load");
      await checkLoads(loads, base, BYTES_BEFORE_LANE_MAX, `start ${device}`);
      assert.ok(!loads.names().some((name) => /rfb|terminal/.test(name)), loads.names().join(" "));
    });
    await runScene(options, async ({ page, fakeServer, base }) => {
      const loads = await recordLoads(page);
      fakeServer.consent = "required";
      const { id } = fakeServer.add({ status: "authenticating" });
      await page.goto(`${base}/dashboard/remote-cli/auth?session=${id}`);
      await page.waitForSelector("[data-consent=required]");
      await checkLoads(loads, base, BYTES_BEFORE_LANE_MAX, `consent ${device}`);
      assert.ok(!loads.names().some((name) => /rfb|terminal/.test(name)), loads.names().join(" "));
    });
  });

  test(`${device}: a sign-in in the person's browser loads at most 40 kB and no picture, and nothing moves from its start to a failure`, async () => {
    await runScene(options, async ({ page, fakeServer, base, sockets }) => {
      const loads = await recordLoads(page);
      const { id } = fakeServer.add({ status: "vm_creating" });
      await page.goto(`${base}/dashboard/remote-cli/auth?session=${id}`);
      await sessionShows(page);
      const change = async (/** @type {Partial<import("../../src/api.ts").ForPerson>} */ situation, /** @type {object} */ part) => {
        const session = /** @type {import("../fake-server/samples.mjs").Session} */ ({ ...fakeServer.sessions.get(id), ...part });
        fakeServer.change(id, { ...part, for_person: forPerson(session, situation) });
        await page.waitForSelector(`.next-action[data-situation=${situation.situation}]`);
      };
      const since = inSeconds(-2);
      await change({ situation: "tool_starting", phase: "working", title: "Starting Codex…", sentence: "", since, usual_s: 5 }, { status: "vm_started" });
      const sign_in = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(850) });
      await change({ situation: "your_turn" }, { status: "authenticating", sign_in });
      await page.waitForSelector(".device-code");
      await checkLoads(loads, base, BYTES_BEFORE_LANE_MAX, `session ${device}`);
      await change({ situation: "saving", phase: "working", title: "You are signed in. Saving it…" }, { sign_in: signIn() });
      const failed = signIn({ failed: "error sending request" });
      const actions = /** @type {const} */ (["restart_tool"]);
      await change({ situation: "host_unreachable", phase: "needs_attention", title: "Codex has no connection", sentence: "Try again.", actions: [...actions] }, { sign_in: failed });
      await checkLoads(loads, base, BYTES_BEFORE_LANE_MAX, `session to its failure ${device}`);
      assert.ok(!loads.names().some((name) => /rfb|desktop|terminal/.test(name)), loads.names().join(" "));
      assert.deepEqual(sockets, [], "no WebSocket");
      assert.equal(fakeServer.requests.filter((call) => call.path.endsWith("/ticket")).length, 0);
    });
    await runScene(options, async ({ page, fakeServer, base }) => {
      const loads = await recordLoads(page);
      const prompt = { id: "code", label: "The code that the last page shows", secret: false, expected_format: "It has two halves.", rejection: null };
      const { id } = fakeServer.add({ status: "vm_creating", lanes: ["link", "terminal"] });
      await page.goto(`${base}/dashboard/remote-cli/auth?session=${id}`);
      await sessionShows(page);
      fakeServer.change(id, { status: "authenticating", sign_in: signIn({ url: "https://claude.com/cai/oauth/authorize", prompt }) });
      await page.waitForSelector("#paste-code");
      await checkLoads(loads, base, BYTES_BEFORE_LANE_MAX, `session with a prompt ${device}`);
    });
  });

  test(`${device}: a session with its desktop loads at most 110 kB, and nothing moves`, async () => {
    await runScene(options, async ({ page, fakeServer, base }) => {
      const loads = await recordLoads(page);
      const { id } = fakeServer.add({ status: "authenticating", lanes: ["desktop", "terminal"] });
      await page.goto(`${base}/dashboard/remote-cli/auth?session=${id}`);
      await desktopShows(page);
      await checkLoads(loads, base, BYTES_DESKTOP_MAX, `session with its desktop ${device}`);
      assert.ok(!loads.names().some((name) => name.includes("terminal")), "the terminal's code is loaded with its tab");
      fakeServer.change(id, { status: "completed" });
      await statusIs(page, "completed");
    });
    await runScene(options, async ({ page, fakeServer, base }) => {
      const loads = await recordLoads(page);
      const { id } = fakeServer.add({ status: "authenticating" });
      await page.goto(`${base}/api/auth/session/${id}/novnc`);
      await desktopShows(page);
      await checkLoads(loads, base, BYTES_DESKTOP_MAX, `only the desktop ${device}`);
    });
  });
}

test("the operators' pages load at most 60 kB with the chart, once for all pages, and nothing of another host", async () => {
  await runScene({ viewport: { width: 1280, height: 800 } }, async (scene) => {
    const { page, base } = scene;
    const id = addSessions(scene);
    const loads = await recordLoads(page);
    await page.goto(`${base}/admin`);
    await page.waitForSelector(".chart canvas");
    await page.waitForLoadState("load");
    await checkLoads(loads, base, BYTES_ADMIN_MAX, "operators' overview");
    // The browser looks for the icon again at each address.
    const code = () => loads.names().filter((name) => !name.endsWith(".svg"));
    const first = code();
    for (const path of ["sessions", "connections", "machines", "hosts", "callers", "audit", "webhook"]) {
      await page.click(`nav a[href="/admin/${path}"]`);
      await page.waitForSelector(`main[data-page=${path}] h1`);
    }
    await page.click('nav a[href="/admin/sessions"]');
    await page.click(`tr[data-session="${id}"] a`);
    await page.waitForSelector("p[data-verdict]");
    assert.deepEqual(code(), first, "the other pages load only data");
  });
});

test("a page shows its frame and heading before its scripts run, and they stay in place when these run", async () => {
  for (const [path, heading] of /** @type {const} */ ([
    ["/dashboard/remote-cli", "Your connections"],
    ["/dashboard/remote-cli/auth?session=", "Session"],
    ["/login", "Open Anteroom"],
    ["/sign-in/callback", "Signing in"],
  ])) {
    await runScene({}, async ({ page, fakeServer, base }) => {
      const { id } = fakeServer.add({ status: "authenticating" });
      let release = () => {};
      const released = new Promise((done) => (release = () => done(null)));
      await page.route("**/*.js", (route) => released.then(() => route.continue()));
      await page.goto(base + path.replace(/=$/, `=${id}`), { waitUntil: "commit" });
      await page.waitForSelector("header .brand");
      assert.equal(await page.textContent("h1"), heading, path);
      assert.match(await page.title(), new RegExp(`^${heading} · Anteroom$`), path);
      await page.evaluate(() => Object.assign(window, { first_header: document.querySelector("header") }));
      release();
      await page.waitForFunction(() => document.querySelector("main:not([data-status=loading])") !== null || document.querySelector("[data-provider]") !== null);
      const is_same = await page.evaluate(() => document.querySelector("header") === /** @type {any} */ (window).first_header);
      assert.ok(is_same, `${path}: the frame is not drawn again`);
    });
  }
});
