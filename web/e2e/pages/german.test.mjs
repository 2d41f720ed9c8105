// The pages in German: whole sign-ins, and the change of the language.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { forPerson, signIn } from "../fake-server/samples.mjs";
import { englishTexts } from "./english.mjs";
import { openSession, runScene } from "./scene.mjs";

const LAPTOP = { viewport: { width: 1280, height: 800 }, locale: "de-DE" };
const PHONE = { viewport: { width: 390, height: 844 }, locale: "de-DE", hasTouch: true, isMobile: true };
const SMALL = { ...PHONE, viewport: { width: 320, height: 640 } };
const DEVICES = Object.entries({ laptop: LAPTOP, phone: PHONE, small: SMALL });

/** Requires that the page is in German and fits the width. @param {import("playwright-core").Page} page @param {string} name */
async function isGerman(page, name) {
  assert.equal(await page.getAttribute("html", "lang"), "de", name);
  assert.deepEqual(await englishTexts(page), [], `English on ${name}`);
  const { scroll, width } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: window.innerWidth }));
  assert.ok(scroll <= width, `${name} scrolls sideways: ${scroll} in ${width}`);
}

/** Shows a situation in a session, and waits for its German title. @param {import("./scene.mjs").Scene} scene @param {string} id
 * @param {Partial<import("../../src/api.ts").ForPerson>} situation @param {string} title */
async function showSituation({ page, fakeServer }, id, situation, title) {
  const session = /** @type {import("../fake-server/samples.mjs").Session} */ (fakeServer.sessions.get(id));
  fakeServer.change(id, { for_person: forPerson(session, situation) });
  await waitUntil(title, async () => (await page.innerText("main")).includes(title));
}

for (const [device, options] of DEVICES) {
  test(`german ${device}: a sign-in from the start to its end, and one that fails, show no English and fit the width`, async () => {
    await runScene(options, async (scene) => {
      const { page, fakeServer, base, shoot } = scene;
      await page.goto(`${base}/dashboard/remote-cli`);
      await page.waitForSelector("[data-provider]");
      await isGerman(page, "start");
      await shoot(`german-${device}-start`);
      fakeServer.consent = "required";
      const id = await openSession(scene, { status: "vm_creating", queue_position: 2 });
      await page.waitForSelector("[data-consent=required]");
      await isGerman(page, "consent");
      await shoot(`german-${device}-consent`);
      await page.click("[data-action=agree]");
      await page.waitForSelector("[data-consent=required]", { state: "detached" });
      await showSituation(scene, id, { situation: "queued", phase: "working" }, "Platz 2");
      await isGerman(page, "queue");
      const sign_in = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345" });
      const next_action = "Copy the code, open the sign-in page of OpenAI and enter the code there. This page notices by itself.";
      fakeServer.change(id, { status: "authenticating", queue_position: null, sign_in, next_action });
      await page.getByText("Sie sind dran").first().waitFor();
      await page.getByText("ABCD-12345").first().waitFor();
      await isGerman(page, "your turn");
      await shoot(`german-${device}-turn`);
      await showSituation(scene, id, { situation: "host_unreachable", phase: "needs_attention", actions: ["restart_tool", "change_method"] }, "konnte auth.openai.com");
      await isGerman(page, "unreachable host");
      await shoot(`german-${device}-unreachable`);
      await showSituation(scene, id, { situation: "saving", phase: "working", actions: [] }, "wird gespeichert");
      await isGerman(page, "saving");
      fakeServer.change(id, { status: "completed" });
      await page.getByText("Codex ist verbunden. Sie können diese Seite schließen.").waitFor();
      await isGerman(page, "end");
      await shoot(`german-${device}-end`);
      await page.goto(`${base}/nothing`);
      await page.getByText("Hier gibt es nichts").waitFor();
      await isGerman(page, "error page");
    });
  });
}

test("the language is changed with the keyboard while a session runs, without a reconnection, and stays after a reload", async () => {
  await runScene({ ...LAPTOP, locale: "en-GB" }, async (scene) => {
    const { page, fakeServer, sockets } = scene;
    await openSession(scene, { sign_in: signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345" }) });
    await page.getByText("Your turn").first().waitFor();
    const texts = () => page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => /\/de-[^/]*\.js/.test(name)).length);
    assert.equal(await texts(), 0, "no German text is loaded");
    const german = page.getByRole("button", { name: "DE Deutsch" });
    assert.equal(await german.getAttribute("aria-pressed"), "false");
    const opened = sockets.length;
    await german.focus();
    await page.keyboard.press("Enter");
    await page.getByText("Sie sind dran").first().waitFor();
    await waitUntil("only German", async () => (await englishTexts(page)).length === 0);
    assert.equal(await page.getAttribute("html", "lang"), "de");
    assert.equal(await german.getAttribute("aria-pressed"), "true");
    assert.ok(await german.evaluate((button) => button === document.activeElement), "the focus stays");
    assert.equal(sockets.length, opened, "no connection was opened");
    assert.equal(await texts(), 1);
    await page.reload();
    await page.getByText("Sie sind dran").first().waitFor();
    await isGerman(page, "after a reload");
    await page.getByRole("button", { name: "EN English" }).click();
    await page.getByText("Your turn").first().waitFor();
    assert.equal(await page.getAttribute("html", "lang"), "en");
    await page.goto(`${scene.base}/nothing`);
    assert.equal(await page.textContent("h1"), "There is nothing here");
    assert.ok(fakeServer.requests.every(({ path }) => !path.includes("language")), "the choice is kept in the browser");
  });
});

test("a German page needs nothing but the German texts in addition, and shows no English before its scripts run", async () => {
  await runScene(LAPTOP, async ({ page, base }) => {
    await page.route("**/*.js", (route) => route.abort());
    for (const path of ["/dashboard/remote-cli", "/dashboard/remote-cli/auth?session=x", "/login", "/sign-in/callback"]) {
      await page.goto(base + path);
      await isGerman(page, path);
    }
  });
});
