// Who asks for the credential, the consent before the machine is shown, and warnings about pages that are not the provider's.

import assert from "node:assert/strict";
import test from "node:test";
import { signIn } from "../fake-server/samples.mjs";
import { accessibilityFaults } from "./accessibility.mjs";
import { openSession, runScene, sessionShows, statusIs } from "./scene.mjs";

const RETURN = { owner_name: "Acme Build", return_host: "build.acme.example", return_url: "https://build.acme.example/done" };

test("a user agrees once, with the keyboard, before the desktop is shown", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, sockets, shoot } = scene;
    fakeServer.consent = "required";
    await openSession(scene, { ...RETURN, sign_in: signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345" }) });
    await page.waitForSelector("[data-consent=required]");
    const text = await page.textContent("[data-consent=required]");
    assert.match(text ?? "", /Acme Build asks you to sign in to Codex\. Acme Build keeps your sign-in, encrypted, and can use Codex as you until one of you removes it\. After that you return to build\.acme\.example\./);
    assert.equal(await page.evaluate(() => document.activeElement?.id), "consent-title", "the keyboard starts at the question");
    assert.equal(await page.textContent("h1"), "Connect Codex to Acme Build");
    for (const hidden of [".lanes", ".device-code", ".sign-in-address"]) {
      assert.equal(await page.locator(hidden).count(), 0, `${hidden} is not shown`);
    }
    assert.deepEqual(sockets, [], "no socket is opened");
    assert.deepEqual(await accessibilityFaults(page), []);
    await shoot("consent");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await sessionShows(page);
    assert.equal(await page.textContent(".code"), "ABCD-12345");
    assert.match((await page.textContent(".policy")) ?? "", /kept encrypted for Acme Build/, "the owner stays in view");
    assert.match((await page.textContent(".policy")) ?? "", /you return to build\.acme\.example/);
    await page.reload();
    await sessionShows(page);
    assert.equal(await page.locator("[data-consent=required]").count(), 0, "asked once");
  });
});

test("a user who declines ends the session without a machine on screen", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, sockets } = scene;
    fakeServer.consent = "required";
    await openSession(scene, RETURN);
    await page.click("[data-action=decline]");
    await statusIs(page, "cancelled");
    assert.deepEqual(sockets, []);
  });
});

test("a page that is not the provider's is a warning, without a button, a code for phones or an address", async () => {
  await runScene({}, async (scene) => {
    const { page, shoot } = scene;
    const sentence = "The machine wants to open accounts-google.evil.example, which is not a page of Codex. Do not enter a password or a code there.";
    await openSession(scene, { sign_in: signIn({ unexpected_address: { host: "accounts-google.evil.example", sentence } }) });
    await page.waitForSelector("[data-notice=unexpected-address]");
    assert.ok((await page.textContent("[data-notice=unexpected-address]"))?.includes(sentence));
    assert.equal(await page.locator(".sign-in-address, #sign-in-qr, a.button.primary").count(), 0);
    assert.deepEqual(await accessibilityFaults(page), []);
    await shoot("unexpected-address");
  });
});

test("an owner without a name is described, in both languages", async () => {
  for (const [locale, heading, sentence, known] of /** @type {const} */ ([
    ["en-GB", "Connect Codex", /The person who runs this page asks you to sign in to Codex\./, "Continue only if you know the person who runs this page"],
    ["de-DE", "Codex verbinden", /^Die Verwaltung dieser Seite bittet Sie, sich bei Codex anzumelden\. Die Verwaltung dieser Seite bewahrt/m, "wenn Sie die Verwaltung dieser Seite kennen"],
  ])) {
    await runScene({ locale }, async (scene) => {
      const { page, fakeServer, shoot } = scene;
      fakeServer.consent = "required";
      await openSession(scene, { owner_name: "operator" });
      await page.locator("h1", { hasText: heading }).waitFor();
      const text = await page.innerText("main");
      assert.match(text, sentence);
      assert.ok(text.includes(known) && !/\boperator\b/i.test(text), text);
      await shoot(`consent-unnamed-owner-${locale}`);
    });
  }
});
