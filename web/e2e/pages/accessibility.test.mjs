import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { waitUntil } from "../browser.mjs";
import { inSeconds, signIn } from "../fake-server/samples.mjs";
import { lowContrastTexts, accessibilityFaults } from "./accessibility.mjs";
import { PHONE, WIDE, desktopShows, openDesktop, openSession, runScene, statusIs } from "./scene.mjs";

const SIGN_IN = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(850) });
const DEVICES = /** @type {const} */ ([
  ["wide-light", { viewport: WIDE, colorScheme: "light" }],
  ["wide-dark", { viewport: WIDE, colorScheme: "dark" }],
  ["phone-light", { viewport: PHONE, colorScheme: "light", hasTouch: true, isMobile: true, deviceScaleFactor: 2 }],
  ["phone-german", { viewport: PHONE, colorScheme: "light", hasTouch: true, isMobile: true, deviceScaleFactor: 2, locale: "de-DE" }],
  ["phone-dark", { viewport: PHONE, colorScheme: "dark", hasTouch: true, isMobile: true, deviceScaleFactor: 2 }],
]);

for (const [name, device] of DEVICES) {
  test(`${name}: every page has names, labels and contrast, and fits its window`, async () => {
    await runScene(device, async (scene) => {
      const { page, fakeServer, base, shoot } = scene;
      const check = async (/** @type {string} */ screenshot) => {
        await shoot(`${screenshot}-${name}`);
        assert.deepEqual(await accessibilityFaults(page), [], screenshot);
        assert.deepEqual(await lowContrastTexts(page), [], screenshot);
      };
      fakeServer.add({ status: "completed" });
      fakeServer.add({ status: "cancelled", reason: { code: "cancelled", sentence: "The session was cancelled." } });
      await page.goto(`${base}/dashboard/remote-cli`);
      await page.waitForSelector("[data-credential]");
      await check("start");
      const id = await openSession(scene, { sign_in: SIGN_IN });
      await openDesktop(page);
      fakeServer.addEntry(id, "machine_ready", "The machine is ready.", { waited_ms: 174 });
      await page.click(".timeline > summary");
      await page.waitForSelector("[data-kind=machine_ready]");
      await check("session");
      fakeServer.change(id, { status: "vm_stopped", reason: { code: "machine_failed", sentence: "The machine ended: killed by signal 9." } });
      await page.waitForSelector(".next-action[data-situation=replacing]");
      await check("replacing");
      fakeServer.change(id, { status: "authenticating", generation: 2, reason: null });
      await page.waitForSelector("[data-notice=replaced]");
      await check("replaced");
      fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null, reason: null });
      await statusIs(page, "completed");
      await page.waitForSelector(".ended-links");
      await check("completed");
    });
  });
}

test("the on-screen keyboard of a phone types into the desktop", async () => {
  await runScene({ viewport: PHONE, hasTouch: true, isMobile: true }, async (scene) => {
    const { page, fakeServer } = scene;
    await openSession(scene);
    await openDesktop(page);
    await page.tap(".keys-bar >> text=Keyboard");
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "TEXTAREA");
    await page.keyboard.insertText("hé");
    await page.keyboard.press("Backspace");
    await waitUntil("the keys", () => (fakeServer.desktop()?.keys.length ?? 0) >= 5);
    // Control and é: the machine gets a key for é before it is typed.
    assert.deepEqual(fakeServer.desktop()?.keys, [0xffe3, 0xe9, 0x68, 0xe9, 0xff08]);
  });
});

/** Presses Tab until the focused element matches. @param {import("playwright-core").Page} page @param {string} selector */
async function tabTo(page, selector) {
  for (let count = 0; count < 40; count += 1) {
    await page.keyboard.press("Tab");
    const reached = await page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector);
    if (reached) return;
  }
  assert.fail(`Tab does not reach ${selector}`);
}

test("the keyboard alone suffices to start, use the desktop, leave it, use the terminal and cancel", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, base, shoot } = scene;
    await page.goto(`${base}/dashboard/remote-cli`);
    await page.waitForSelector("[data-provider=codex]");
    await page.keyboard.press("Tab");
    await shoot("keyboard-skip-link");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "skip-link");
    await page.keyboard.press("Enter");
    await tabTo(page, "[data-provider=codex]");
    await shoot("keyboard-card");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/auth\?/);
    const id = [...fakeServer.sessions.keys()].at(-1) ?? "";
    fakeServer.change(id, { status: "vm_started" });
    await tabTo(page, "#tab-own");
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tab-desktop");
    await desktopShows(page);
    // The focus moves into the desktop: from now on, Tab is sent to the machine.
    await page.keyboard.press("Tab");
    await page.keyboard.type("x");
    await page.keyboard.press("Tab");
    await waitUntil("the keys", () => (fakeServer.desktop()?.keys.length ?? 0) >= 2);
    assert.deepEqual(fakeServer.desktop()?.keys, [0x78, 0xff09]);
    assert.match((await page.getAttribute(".desktop-host canvas", "aria-label")) ?? "", /Desktop of the machine.*Shift\+F6/);
    await page.keyboard.press("Shift+F6");
    assert.ok(await page.evaluate(() => document.activeElement?.closest("#desktop-tools")), "what follows the picture");
    await page.keyboard.press("Shift+F6");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tab-desktop");
    await page.keyboard.press("ArrowRight");
    await waitUntil("the terminal", async () => ((await page.textContent(".xterm-rows").catch(() => "")) ?? "").includes("codex login"));
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tab-terminal", "the arrow keys go on from here");
    await page.keyboard.press("Tab");
    await page.keyboard.type("y");
    await waitUntil("the key", () => fakeServer.terminal_input.includes("y"));
    await page.keyboard.press("Shift+F6");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "paste-text");
    await page.keyboard.press("Shift+F6");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tab-terminal");
    await page.keyboard.press("Home");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tab-own");
    await page.keyboard.press("ArrowLeft");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "tab-terminal", "the tabs are a ring");
    await page.focus("[data-action=cancel]");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog[open]");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await statusIs(page, "cancelled");
  });
});

/** Collects what the live regions of the page announce, in order. @param {import("playwright-core").Page} page */
function collectAnnouncements(page) {
  return page.evaluate(() => {
    const announced = /** @type {string[]} */ ([]);
    Object.assign(window, { announced });
    new MutationObserver((changes) => {
      const regions = new Set(changes.map(({ target }) => (target instanceof Element ? target : target.parentElement)?.closest("[role=status], [role=alert], [aria-live]")));
      for (const region of regions) {
        const copy = region?.cloneNode(true);
        if (!(copy instanceof Element)) continue;
        for (const hidden of copy.querySelectorAll("[aria-hidden=true]")) hidden.remove();
        if (copy.textContent) announced.push(copy.textContent);
      }
    }).observe(document, { childList: true, subtree: true, characterData: true });
  });
}

test("live regions announce each change once, the coming of the link and of the code among them", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const id = await openSession(scene, { status: "vm_creating", stage: "channel" });
    await page.waitForSelector(".status-title");
    await collectAnnouncements(page);
    const count = async (/** @type {RegExp} */ wanted) => {
      const announced = await page.evaluate(() => /** @type {any} */ (window).announced);
      return announced.filter((/** @type {string} */ text) => wanted.test(text)).length;
    };
    fakeServer.change(id, { status: "authenticating", stage: null, sign_in: signIn() });
    await waitUntil("the person's turn", () => count(/Your turn/));
    fakeServer.change(id, { sign_in: signIn({ url: "https://auth.example/login" }) });
    await waitUntil("the link", () => count(/The sign-in link is here\./));
    fakeServer.change(id, { sign_in: signIn({ url: "https://auth.example/login", device_code: "ABCD-12345" }) });
    await waitUntil("the code", () => count(/Your code and the sign-in link are here\./));
    assert.deepEqual([await count(/Your turn/), await count(/^The sign-in link is here/), await count(/Your code and/)], [1, 1, 1]);
  });
});

test("on an https page every socket is wss, and the HTML refers only to its assets", async () => {
  const directory = await mkdtemp(join(tmpdir(), "anteroom-e2e-tls-"));
  try {
    const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
    execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", cert], { stdio: "ignore" });
    const tls = { key: await readFile(key, "utf8"), cert: await readFile(cert, "utf8") };
    await runScene({ tls, ignoreHTTPSErrors: true }, async (scene) => {
      await openSession(scene);
      await openDesktop(scene.page);
      assert.ok(scene.sockets.length > 0);
      for (const socket of scene.sockets) assert.match(socket, /^wss:\/\/127\.0\.0\.1:/);
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const dist = join(dirname(fileURLToPath(import.meta.url)), "../../dist");
  for (const page of (await readdir(dist, { recursive: true })).filter((name) => name.endsWith(".html"))) {
    const html = await readFile(join(dist, page), "utf8");
    assert.ok(!/<(script|link)[^>]*(src|href)="(?!\/assets\/)/.test(html), `${page} loads only files in /assets`);
    assert.ok(!/(src|href)="(?!\/(assets|dashboard)\/|#|")/.test(html), `${page} refers only to its own server`);
    assert.ok(!/<script(?![^>]*src=)|<style|\sstyle=|\son\w+=/.test(html), `${page} has no inline script or style`);
  }
});

test("with reduced motion, nothing is animated", async () => {
  await runScene({ reducedMotion: "reduce" }, async (scene) => {
    await openSession(scene, { status: "vm_creating", queue_position: 3 });
    await scene.page.waitForSelector(".status-light");
    const animations = await scene.page.evaluate(() => document.getAnimations().filter((one) => one.playState === "running").length);
    assert.equal(animations, 0);
  });
});
