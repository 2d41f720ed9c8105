// Link, code, prompt, key, callback: the text from the user reaches the tool, and the page shows the result.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { CODEX_METHODS, credential, signIn } from "../fake-server/samples.mjs";
import { PHONE, openSession, runScene } from "./scene.mjs";

const LINK = "https://claude.com/cai/oauth/authorize?client_id=x&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback";
const BROWSER = "https://claude.com/cai/oauth/authorize?client_id=x&redirect_uri=http%3A%2F%2Flocalhost%3A41234%2Fcallback&state=s";
const PROMPT = { id: "code", label: "The code that the last page shows", secret: false, expected_format: "It looks like CODE#STATE.", rejection: null };

test("a prompt of the tool is shown, and an answer that the API rejects differs from one that the tool rejects", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    const id = await openSession(scene, { lanes: ["link", "desktop", "terminal"], sign_in: signIn({ url: LINK, browser_url: BROWSER, prompt: PROMPT }) });
    assert.equal(await page.textContent(".paste-form label"), PROMPT.label);
    assert.match((await page.textContent(".paste-form .hint")) ?? "", /CODE#STATE.*localhost/s);
    await page.fill("#paste-code", "wrong");
    await page.click(".paste-form >> text=Send");
    await page.waitForSelector(".paste-form >> text=it was not passed on");
    assert.equal(await page.inputValue("#paste-code"), "wrong", "the text is kept");
    await page.fill("#paste-code", "abc#def");
    await page.click(".paste-form >> text=Send");
    await page.waitForSelector(".paste-form >> text=Sent to Codex.");
    fakeServer.change(id, { sign_in: signIn({ url: LINK, prompt: { ...PROMPT, rejection: "Invalid code" } }) });
    await page.waitForSelector(".rejected >> text=Invalid code");
    await shoot("lane-prompt");
  });
});

test("the callback address of the user's browser is recognized", async () => {
  await runScene({}, async (scene) => {
    const { page } = scene;
    await openSession(scene, { lanes: ["link", "desktop", "terminal"], sign_in: signIn({ url: BROWSER, browser_url: BROWSER }) });
    await page.fill("#paste-code", "http://localhost:41234/callback?code=c&state=s");
    await page.click(".next-action >> text=Send");
    await page.waitForSelector(".next-action >> text=Address accepted.");
  });
});

test("a secret is not shown while it is typed", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    const prompt = { id: "key_entry", label: "OpenAI API key", secret: true, expected_format: "It begins with sk-.", rejection: null };
    await openSession(scene, { lanes: ["terminal"], sign_in: signIn({ prompt }) });
    await page.waitForSelector("#paste-code");
    assert.equal(await page.getAttribute("#paste-code", "type"), "password");
    await page.fill("#paste-code", "sk-not-a-real-one");
    await shoot("lane-key");
    await page.click("text=Send the key");
    const pasted = await waitUntil("the key", () => fakeServer.requests.find((call) => call.path.endsWith("/paste")));
    assert.equal(pasted.body.text, "sk-not-a-real-one");
    assert.ok(!(await page.content()).includes("sk-not-a-real-one"), "not kept afterwards");
  });
});

test("the address is shown as a QR code within the Content-Security-Policy", async () => {
  await runScene({ viewport: PHONE }, async (scene) => {
    const { page, shoot } = scene;
    await openSession(scene, { lanes: ["link"], sign_in: signIn({ url: LINK }) });
    await page.click("text=Sign in on your phone");
    const code = page.locator("svg.qr");
    await code.locator(".qr-dark").waitFor();
    const size = Number((await code.getAttribute("viewBox"))?.split(" ")[2]);
    const dark = (await code.locator(".qr-dark").getAttribute("d")) ?? "";
    // The three finder patterns are 7 × 7 modules, inside a margin of 4: their upper edges are runs of 7.
    for (const [x, y] of [[4, 4], [size - 11, 4], [4, size - 11]]) assert.ok(dark.includes(`M${x} ${y}h7`), `a corner at ${x},${y}`);
    await shoot("lane-qr");
  });
});

test("another sign-in method is requested after a confirmation", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    /** @type {import("../../src/api.ts").MethodView[]} */
    const methods = [{ id: "default", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS];
    await openSession(scene, { methods, sign_in: signIn({ url: LINK, device_code: "ABCD-12345" }) });
    await page.click("[data-method=api_key]");
    await page.waitForSelector("text=What you have entered so far is lost.");
    await shoot("lane-methods");
    await page.click("dialog >> text=Change");
    const call = await waitUntil("the change", () => fakeServer.requests.find((one) => one.path.endsWith("/method")));
    assert.deepEqual(call.body, { method: "api_key" });
    await page.waitForSelector("[data-method=default]");
    assert.equal(await page.locator("[data-method=api_key]").count(), 0);
  });
});

test("the tool's failure message is shown", async () => {
  await runScene({}, async (scene) => {
    await openSession(scene, { sign_in: signIn({ url: LINK, failed: "The code has expired." }) });
    await scene.page.waitForSelector("[data-notice=tool-failed] >> text=The code has expired.");
  });
});

test("a credential shows its health, is checked, and is renewed under its id", async () => {
  await runScene({}, async ({ page, fakeServer, base, shoot }) => {
    const health_detail = "The tool reported that it is not signed in.";
    fakeServer.credentials = [credential("crd_1", "ses_1", { health: "needs_auth", health_detail }), credential("crd_2", "ses_2")];
    await page.goto(`${base}/dashboard/remote-cli`);
    const rejected = page.locator("[data-credential=crd_1]");
    assert.match((await rejected.textContent()) ?? "", /Signed out: sign in again\..*not signed in/s);
    await shoot("credentials");
    await page.click("[data-credential=crd_2] [data-action=check]");
    const check = await waitUntil("the check's session", () => [...fakeServer.sessions.values()].find((one) => one.credential_use?.purpose === "check"));
    await page.waitForSelector("[data-credential=crd_2] >> text=Checking…");
    fakeServer.change(check.id, { status: "completed" });
    await page.waitForSelector("[data-credential=crd_2] [data-action=check]:enabled");
    await rejected.locator("button.primary").click();
    const start = await waitUntil("the start", () => fakeServer.requests.find((call) => call.path === "/api/auth/start"));
    assert.equal(start.body.renews, "crd_1");
    await page.waitForURL(/auth\?session=/);
    await page.waitForSelector("h1 >> text=Connect Codex again");
  });
});

test("a command with a stored credential ends with its exit code", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    const credential_use = /** @type {const} */ ({ purpose: "exec", credential: "crd_1", exit_code: null, waits_for: null });
    const id = await openSession(scene, { credential_use });
    await page.waitForSelector("h1 >> text=with a stored credential");
    fakeServer.change(id, { status: "completed", credential_use: { ...credential_use, exit_code: 3 } });
    await page.waitForSelector("text=It ended with exit code 3.");
  });
});
