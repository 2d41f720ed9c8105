// Link, code, question, key, callback: what the person brings reaches the tool, and the page says what became of it.

import assert from "node:assert/strict";
import test from "node:test";
import { until } from "../browser.mjs";
import { CODEX_METHODS, credential, signIn } from "../fake-server/samples.mjs";
import { desktopShows, openSession, PHONE, scene } from "./scene.mjs";

const LINK = "https://claude.com/cai/oauth/authorize?client_id=x&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback";
const BROWSER = "https://claude.com/cai/oauth/authorize?client_id=x&redirect_uri=http%3A%2F%2Flocalhost%3A41234%2Fcallback&state=s";
const PROMPT = { id: "code", label: "The code that the last page shows", secret: false, hint: "It looks like CODE#STATE.", rejected: null };

test("a question of the tool is asked in the page, a wrong answer is told from a refused one", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    const id = await openSession(stage, { lanes: ["link", "desktop", "terminal"], sign_in: signIn({ url: LINK, browser_url: BROWSER, prompt: PROMPT }) });
    await desktopShows(page);
    assert.equal(await page.textContent(".bring label"), PROMPT.label);
    assert.match((await page.textContent(".bring .hint")) ?? "", /CODE#STATE.*localhost/s);
    await page.fill("#paste-code", "wrong");
    await page.click(".bring >> text=Send");
    await page.waitForSelector(".bring >> text=was not given to it");
    assert.equal(await page.inputValue("#paste-code"), "wrong", "what was typed is kept");
    await page.fill("#paste-code", "abc#def");
    await page.click(".bring >> text=Send");
    await page.waitForSelector(".bring >> text=Typed at Codex's prompt.");
    fakeServer.change(id, { sign_in: signIn({ url: LINK, prompt: { ...PROMPT, rejected: "Invalid code" } }) });
    await page.waitForSelector(".refused >> text=Invalid code");
    await shoot("lane-question");
  });
});

test("the address at which a browser ended is taken as such", async () => {
  await scene({}, async (stage) => {
    const { page } = stage;
    await openSession(stage, { lanes: ["desktop", "terminal"], sign_in: signIn({ url: BROWSER, browser_url: BROWSER }) });
    await desktopShows(page);
    await page.fill("#paste-code", "http://localhost:41234/callback?code=c&state=s");
    await page.click(".next >> text=Send");
    await page.waitForSelector(".next >> text=Codex took the address.");
  });
});

test("a key is not shown while it is typed", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    const prompt = { id: "key_entry", label: "OpenAI API key", secret: true, hint: "It begins with sk-.", rejected: null };
    await openSession(stage, { lanes: ["terminal"], sign_in: signIn({ prompt }) });
    await desktopShows(page);
    assert.equal(await page.getAttribute("#paste-code", "type"), "password");
    await page.fill("#paste-code", "sk-not-a-real-one");
    await shoot("lane-key");
    await page.click("text=Send the key");
    const pasted = await until("the key", () => fakeServer.calls.find((call) => call.path.endsWith("/paste")));
    assert.equal(pasted.body.text, "sk-not-a-real-one");
    assert.ok(!(await page.content()).includes("sk-not-a-real-one"), "nor kept afterwards");
  });
});

test("an address is there as a QR code, drawn within the page's policy", async () => {
  await scene({ viewport: PHONE }, async (stage) => {
    const { page, shoot } = stage;
    await openSession(stage, { lanes: ["link"], sign_in: signIn({ url: LINK }) });
    await page.click("text=QR code");
    const code = page.locator("svg.qr");
    await code.waitFor();
    const size = Number((await code.getAttribute("viewBox"))?.split(" ")[2]);
    const dark = (await code.locator(".qr-dark").getAttribute("d")) ?? "";
    // Three corners of seven by seven: their upper edges are runs of seven, four modules in from the margin.
    for (const [x, y] of [[4, 4], [size - 11, 4], [4, size - 11]]) assert.ok(dark.includes(`M${x} ${y}h7`), `a corner at ${x},${y}`);
    await shoot("lane-qr");
  });
});

test("another way to sign in is asked about, then asked for", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, shoot } = stage;
    const methods = [{ id: "default", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS];
    await openSession(stage, { methods, sign_in: signIn({ url: LINK, device_code: "ABCD-12345" }) });
    await desktopShows(page);
    await page.click("[data-method=api_key]");
    await page.waitForSelector("text=is started anew in the same machine");
    await shoot("lane-methods");
    await page.click("text=Change");
    const call = await until("the change", () => fakeServer.calls.find((one) => one.path.endsWith("/method")));
    assert.deepEqual(call.body, { method: "api_key" });
    await page.waitForSelector("[data-method=default]");
    assert.equal(await page.locator("[data-method=api_key]").count(), 0);
  });
});

test("what the tool says of a failure is said", async () => {
  await scene({}, async (stage) => {
    await openSession(stage, { sign_in: signIn({ url: LINK, failed: "The code has expired." }) });
    await stage.page.waitForSelector("[data-notice=tool-failed] >> text=The code has expired.");
  });
});

test("a credential tells its health, is checked, and is signed in for again under its id", async () => {
  await scene({}, async ({ page, fakeServer, base, shoot }) => {
    const health_detail = "The tool said that it is not signed in.";
    fakeServer.credentials = [credential("crd_1", "ses_1", { health: "needs_auth", health_detail }), credential("crd_2", "ses_2")];
    await page.goto(`${base}/dashboard/remote-cli`);
    const bad = page.locator("[data-credential=crd_1]");
    assert.match((await bad.textContent()) ?? "", /Needs a sign-in.*not signed in/s);
    await shoot("credentials");
    await page.click("[data-credential=crd_2] >> text=Check");
    const used = await until("the check's session", () => [...fakeServer.sessions.values()].find((one) => one.credential_use?.purpose === "check"));
    fakeServer.change(used.id, { status: "completed" });
    await page.waitForSelector("[data-credential=crd_2] >> text=Check");
    await bad.locator("button.primary").click();
    const start = await until("the start", () => fakeServer.calls.find((call) => call.path === "/api/auth/start"));
    assert.equal(start.body.renews, "crd_1");
    await page.waitForURL(/auth\?session=/);
    await page.waitForSelector("h1 >> text=Sign Codex in again");
  });
});

test("a command with a stored credential ends with its exit code", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer } = stage;
    const uses = { purpose: "exec", credential: "crd_1", exit_code: null };
    const id = await openSession(stage, { uses });
    await page.waitForSelector("h1 >> text=with a stored credential");
    fakeServer.change(id, { status: "completed", credential_use: { ...uses, exit_code: 3 } });
    await page.waitForSelector("text=It ended with exit code 3.");
  });
});
