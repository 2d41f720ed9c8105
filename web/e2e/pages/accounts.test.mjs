// Accounts that a tool or a sign-in page refuses: what the page asks for, and the way out with one click.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { CODEX_METHODS, forPerson, signIn } from "../fake-server/samples.mjs";
import { accessibilityFaults } from "./accessibility.mjs";
import { addSessions } from "./admin-states.mjs";
import { openSession, PHONE, runScene } from "./scene.mjs";

const REFUSAL = "This account requires setting the GOOGLE_CLOUD_PROJECT or GOOGLE_CLOUD_PROJECT_ID env var.";
const SENTENCE = "Gemini CLI cannot use this account without it. Fill in the field below.";

/**
 * Shows this to the person of an open session.
 * @param {import("./scene.mjs").Scene} scene
 * @param {string} id
 * @param {Partial<import("../../src/api.ts").ForPerson>} part
 */
function show({ fakeServer }, id, part) {
  const session = /** @type {import("../fake-server/samples.mjs").Session} */ (fakeServer.sessions.get(id));
  fakeServer.change(id, { for_person: forPerson(session, part) });
}

test("r07: a refused account is not connected; the page has the tool's reason and the field for what it needs", async () => {
  for (const lanes of /** @type {const} */ ([["link", "terminal"], ["desktop", "link", "terminal"]])) {
    await runScene({ viewport: PHONE }, async (scene) => {
      const { page, fakeServer } = scene;
      /** @type {import("../../src/api.ts").PromptView} */
      const prompt = {
        id: "google_cloud_project",
        label: "Google Cloud project",
        secret: false,
        expected_format: "It is the id of a project, for example my-project-123, not its number or its name.",
        rejection: null,
      };
      const tool = { provider: "gemini_cli", provider_name: "Gemini CLI", status: /** @type {const} */ ("authenticating"), lanes: [...lanes] };
      const id = await openSession(scene, { ...tool, sign_in: signIn({ prompt, failed: REFUSAL }) });
      show(scene, id, { situation: "setting_needed", phase: "your_turn", title: "One more entry is needed", sentence: SENTENCE, actions: ["restart_tool"] });
      await page.waitForSelector(".next-action[data-situation=setting_needed]");
      assert.equal(await page.textContent(".next-action .for-person"), SENTENCE);
      assert.match((await page.textContent("[data-notice=tool-failed]")) ?? "", /GOOGLE_CLOUD_PROJECT/);
      assert.equal(await page.locator("label[for=paste-code]").textContent(), "Google Cloud project");
      assert.equal(await page.locator(".next-action a.button").count(), 0, "no link of a sign-in that is over");
      assert.deepEqual(await accessibilityFaults(page), []);
      await page.fill("#paste-code", "my-project-123");
      await page.press("#paste-code", "Enter");
      const call = await waitUntil("the answer", () => fakeServer.requests.find((one) => one.path.endsWith("/paste")));
      assert.deepEqual(call.body, { text: "my-project-123" });
    });
  }
});

test("r14: while a device code waits, the page says where an account allows it, and the other method is one click away", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page, fakeServer } = scene;
    /** @type {import("../../src/api.ts").MethodView[]} */
    const methods = [{ id: "device_code", label: "With a code", lanes: ["device_code", "desktop"] }, ...CODEX_METHODS];
    const sign_in = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345" });
    const id = await openSession(scene, { status: "authenticating", method: "device_code", methods, lanes: ["device_code", "desktop"], sign_in });
    const sentence = "If OpenAI says that device codes are off: you can switch them on in ChatGPT under Settings, Security.";
    show(scene, id, { if_refused: { sentence, method: "browser", in_own_browser: false } });
    await page.waitForSelector("[data-notice=if-refused]");
    assert.equal(await page.textContent("[data-notice=if-refused] .hint"), sentence);
    assert.equal(await page.locator(".device-code").count(), 1, "the code stays");
    assert.deepEqual(await accessibilityFaults(page), []);
    await page.click("[data-action=use-method]");
    const call = await waitUntil("the change", () => fakeServer.requests.find((one) => one.path.endsWith("/method")));
    assert.deepEqual(call.body, { method: "browser" });
  });
});

test("r40: where Google may refuse the remote browser, the person's own browser is one click away", async () => {
  await runScene({}, async (scene) => {
    const { page } = scene;
    const url = "https://accounts.google.com/o/oauth2/v2/auth?redirect_uri=http%3A%2F%2F127.0.0.1%3A41234%2Foauth2callback";
    const tool = { provider: "gemini_cli", provider_name: "Gemini CLI", status: /** @type {const} */ ("authenticating") };
    const id = await openSession(scene, { ...tool, lanes: ["desktop", "link"], sign_in: signIn({ url, browser_url: url }) });
    show(scene, id, { if_refused: { sentence: "Google may refuse to sign you in here.", method: null, in_own_browser: true } });
    await page.waitForSelector("#panel-desktop [data-notice=if-refused]");
    assert.deepEqual(await accessibilityFaults(page), []);
    await page.click("[data-action=use-own-browser]");
    await page.waitForSelector("#panel-own .sign-in-address a.button");
    assert.equal(await page.getAttribute("#tab-own", "aria-selected"), "true");
    assert.equal(await page.locator("[data-notice=if-refused]").count(), 0, "nothing refuses there");
  });
});

test("r13: an operator allows a refused host for the running session with one click", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, base } = scene;
    addSessions(scene);
    await page.goto(`${base}/admin/hosts`);
    const host = page.locator("[data-host='sso.company.example']");
    await host.locator("[data-action=grant]").click();
    await host.locator("text=Allowed until the session ends.").waitFor();
    const call = await waitUntil("the grant", () => fakeServer.requests.find((one) => one.path.endsWith("/hosts")));
    assert.deepEqual(call.body, { host: "sso.company.example" });
    assert.equal(await page.locator("[data-host='tracker.example'] [data-action=grant]").count(), 0, "no session asks for it now");
    await host.locator("summary").click();
    assert.match((await host.locator("pre.change").textContent()) ?? "", /\[providers\.codex\]/);
  });
});

test("an answer that a proxy refuses as too large is named", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page } = scene;
    /** @type {import("../../src/api.ts").PromptView} */
    const prompt = { id: "paste_code", label: "Code", secret: false, expected_format: null, rejection: null };
    await openSession(scene, { status: "authenticating", sign_in: signIn({ url: "https://auth.openai.com/x", prompt }) });
    await page.route("**/paste", (route) => route.fulfill({ status: 413, contentType: "text/html", body: "<h1>413</h1>" }));
    await page.fill("#paste-code", "x".repeat(2_000));
    await page.press("#paste-code", "Enter");
    await page.waitForSelector("[data-problem=proxy_body_limit]");
    assert.deepEqual(await accessibilityFaults(page), []);
  });
});
