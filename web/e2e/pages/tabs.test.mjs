// The tabs of a session: which there are, which is open, what connects with them, and that they stay open.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { CODEX_METHODS, signIn } from "../fake-server/samples.mjs";
import { accessibilityFaults } from "./accessibility.mjs";
import { desktopShows, openDesktop, openSession, runScene, sessionShows } from "./scene.mjs";

const CODE = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345" });
const TABS = "[role=tablist] [role=tab]";

/** @param {import("./scene.mjs").Scene} scene */
const openTab = ({ page }) => page.getAttribute("[role=tab][aria-selected=true]", "id");

test("a method has only the tabs of its lanes, and the preferred one is open", async () => {
  for (const [lanes, names, open] of /** @type {const} */ ([
    [["device_code", "desktop", "terminal"], ["Your browser", "Remote browser", "Terminal"], "tab-own"],
    [["link", "terminal"], ["Your browser", "Terminal"], "tab-own"],
    [["desktop", "link", "terminal"], ["Your browser", "Remote browser", "Terminal"], "tab-desktop"],
    [["terminal"], ["Terminal"], "tab-terminal"],
  ])) {
    await runScene({}, async (scene) => {
      await openSession(scene, { lanes: [...lanes], sign_in: CODE });
      await sessionShows(scene.page);
      assert.deepEqual(await scene.page.locator(TABS).allTextContents(), names);
      assert.equal(await openTab(scene), open);
      assert.equal(await scene.page.locator("[role=tabpanel]:visible").getAttribute("aria-labelledby"), open);
    });
  }
});

test("the remote browser connects when its tab opens, and stays connected with its picture while another tab is shown", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, sockets } = scene;
    await openSession(scene, { sign_in: CODE });
    await page.waitForSelector(".device-code");
    assert.deepEqual(sockets, []);
    await openDesktop(page);
    const desktop = fakeServer.desktop();
    assert.equal(await page.textContent("#panel-desktop .code"), "ABCD-12345", "the code is needed there, too");
    await page.click("#tab-own");
    assert.equal(await page.isVisible(".desktop-host"), false);
    await page.click("#tab-desktop");
    await desktopShows(page);
    assert.equal(fakeServer.desktop(), desktop, "the same connection");
    assert.equal(sockets.length, 1);
  });
});

test("the chosen tab stays open after a reload and after the machine is replaced, and another method opens its own", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    /** @type {import("../../src/api.ts").MethodView[]} */
    const methods = [{ id: "default", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS];
    const id = await openSession(scene, { methods, sign_in: CODE });
    await page.click("#tab-terminal");
    await page.waitForSelector(".xterm-rows");
    await page.reload();
    await page.waitForSelector(".xterm-rows");
    assert.equal(await openTab(scene), "tab-terminal");
    fakeServer.change(id, { status: "vm_stopped" });
    await page.waitForSelector(".next-action[data-situation=replacing]");
    fakeServer.change(id, { status: "authenticating", generation: 2 });
    await page.waitForSelector("[data-notice=replaced]");
    assert.equal(await openTab(scene), "tab-terminal");
    fakeServer.change(id, { method: "browser", lanes: ["desktop", "link", "terminal"] });
    await desktopShows(page);
    assert.equal(await openTab(scene), "tab-desktop");
    assert.ok(!page.url().includes("lane="), "the choice was of the other method");
    fakeServer.change(id, { method: "api_key", lanes: ["terminal"] });
    await waitUntil("the terminal alone", async () => (await openTab(scene)) === "tab-terminal" && fakeServer.desktop() === null);
  });
});

test("a link that the person's browser cannot finish continues in the remote browser", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const url = "https://claude.com/cai/oauth/authorize";
    const browser_url = `${url}?redirect_uri=http%3A%2F%2Flocalhost%3A1%2Fcallback`;
    await openSession(scene, { lanes: ["link", "desktop"], sign_in: signIn({ url, browser_url }) });
    await page.click(".something-else summary");
    assert.deepEqual(await accessibilityFaults(page), []);
    await page.click("[data-action=use-desktop]");
    await desktopShows(page);
    const opened = fakeServer.requests.find((call) => call.path.endsWith("/open-url"));
    assert.equal(opened?.body.url, browser_url);
  });
});

test("a sign-in in the person's browser notices its end, a lost server and its return by itself", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene, { sign_in: CODE });
    await page.waitForSelector(".device-code");
    await page.route("**/api/auth/session/**", (route) => route.abort());
    fakeServer.breakStreams();
    await page.waitForSelector(".status >> text=Connection lost. Reconnecting…");
    await page.click(".something-else summary");
    assert.ok(await page.isDisabled("#paste-code"), "what needs the server is off");
    assert.ok(await page.isVisible(".sign-in-address a"), "the provider's page is not of this server");
    await page.unroute("**/api/auth/session/**");
    await page.waitForSelector(".status >> text=Your turn");
    fakeServer.change(id, { status: "completed" });
    await page.waitForSelector("main[data-status=completed]");
  });
});
