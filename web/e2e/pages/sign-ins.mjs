// The sign-ins of the demo and of the released tools' shapes, from the start page to the end, for each way of using a page.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { waitUntil as waitUntilSlow } from "../browser.mjs";
import { CODEX_METHODS, inSeconds, signIn } from "../fake-server/samples.mjs";

/** @typedef {import("./people.mjs").Person} Person */
/** @typedef {import("playwright-core").Page} Page */
/** @typedef {Partial<import("../fake-server/samples.mjs").Session>} SessionPart */

/**
 * @typedef {object} SignInScene
 * @property {Page} page
 * @property {import("../fake-server/server.mjs").FakeServer} fakeServer
 * @property {string} base
 * @property {string} issuer the origin of the identity provider's pages
 * @property {() => Promise<Page>} opened resolves to the next page that the browser opens
 */

/** Waits for what comes at once. @param {string} name @param {() => unknown} read */
const waitUntil = (name, read) => waitUntilSlow(name, read, 10_000, 20);

/** @typedef {(part: SessionPart) => void} Change changes the session */
/**
 * @typedef {object} SignIn
 * @property {string} provider
 * @property {(person: Person, scene: SignInScene, change: Change) => Promise<void>} act what the person and the tool do after the consent
 */

const ANSWER_PROMPT = { id: "paste_code", label: "The code that the last page shows", secret: false, rejection: null };
export const CLAUDE_PROMPT = { ...ANSWER_PROMPT, expected_format: "It has two halves with a # between them; copy all of it." };
const GEMINI_PROMPT = { ...ANSWER_PROMPT, expected_format: "It begins with 4/ and has no spaces." };
const KEY_PROMPT = { id: "key_entry", label: "OpenAI API key", secret: true, expected_format: "It begins with sk-.", rejection: null };
const LOOPBACK = "http://localhost:41234/callback";

/**
 * An address of the issuer, whose last page shows `answer`.
 * @param {string} issuer
 * @param {string} answer
 * @param {string} [redirect_uri]
 */
export function authorize(issuer, answer, redirect_uri = "https://platform.claude.com/oauth/code/callback") {
  return `${issuer}/authorize?${new URLSearchParams({ answer, redirect_uri, state: "s" })}`;
}

/** Opens the address of the sign-in; returns what its last page shows. @param {Person} person @param {SignInScene} scene */
async function signInAtIssuer(person, { page, opened }) {
  const opens = opened();
  await person.press(".sign-in-address a");
  const tab = await opens;
  await tab.waitForSelector("#text");
  const answer = await tab.evaluate(() => document.querySelector("#text")?.textContent ?? "");
  await tab.close();
  await page.bringToFront();
  return answer;
}

/**
 * Sends a text to the tool; checks that the server got it once, and what the page says.
 * @param {Person} person
 * @param {SignInScene} scene
 * @param {string} text
 * @param {string} message
 */
async function sendAnswer(person, { page, fakeServer }, text, message) {
  await person.type("#paste-code", text);
  await person.press(".paste-form button[type=submit]");
  await waitUntil(message, () => page.evaluate((wanted) => document.querySelector(".paste-form")?.textContent?.includes(wanted), message));
  const sent = fakeServer.requests.filter((call) => call.path.endsWith("/paste"));
  assert.deepEqual(sent.map((call) => call.body.text), [text]);
  fakeServer.requests = [];
  await person.checkFocus();
}

/**
 * The tool rejects `half_code` and then gets the whole one; `null`: no half.
 * @param {typeof CLAUDE_PROMPT} prompt
 * @param {string} tool
 * @param {string} code
 * @param {string | null} half_code
 * @returns {SignIn["act"]}
 */
function pasteCode(prompt, tool, code, half_code) {
  return async (person, scene, change) => {
    const url = authorize(scene.issuer, code);
    change({ status: "authenticating", sign_in: signIn({ url, browser_url: authorize(scene.issuer, code, LOOPBACK), prompt }) });
    if (half_code !== null) {
      await sendAnswer(person, scene, half_code, `Sent to ${tool}.`);
      change({ sign_in: signIn({ url, prompt: { ...prompt, rejection: "That is not the full code" } }) });
      await scene.page.waitForSelector(".rejected");
      await person.checkFocus();
    }
    const answer = await signInAtIssuer(person, scene);
    assert.equal(answer, code);
    await sendAnswer(person, scene, answer, `Sent to ${tool}.`);
  };
}

/** @type {Record<string, SignIn>} */
export const SIGN_INS = {
  "link and pasted code, as Claude Code": { provider: "claude_code", act: pasteCode(CLAUDE_PROMPT, "Claude Code", "Xy7_kQ2-#aB3dE5", "Xy7_kQ2-") },
  "link and pasted code, as Gemini CLI": { provider: "gemini_cli", act: pasteCode(GEMINI_PROMPT, "Gemini CLI", "4/0AbCdEfGh", null) },
  "link and pasted address": {
    provider: "claude_code",
    act: async (person, scene, change) => {
      const address = `${LOOPBACK}?code=c&state=s`;
      const url = authorize(scene.issuer, address, LOOPBACK);
      change({ status: "authenticating", sign_in: signIn({ url, browser_url: url }) });
      await sendAnswer(person, scene, await signInAtIssuer(person, scene), "Address accepted.");
    },
  },
  "API key": {
    provider: "codex",
    act: async (person, scene, change) => {
      const { page, fakeServer } = scene;
      change({ status: "authenticating", methods: [{ id: "default", label: "With a code", lanes: ["device_code"] }, ...CODEX_METHODS] });
      await person.press("[data-method=api_key]");
      await person.press("dialog .danger");
      await waitUntil("the method", () => fakeServer.requests.some((call) => call.path.endsWith("/method")));
      change({ lanes: ["terminal"], sign_in: signIn({ prompt: KEY_PROMPT }) });
      await page.waitForSelector("#paste-code[type=password]");
      await person.checkFocus();
      await sendAnswer(person, scene, "sk-not-a-real-one", "Sent to Codex.");
      assert.ok(!(await page.content()).includes("sk-not-a-real-one"), "the page does not keep the key");
    },
  },
  "device code": {
    provider: "codex",
    act: async (person, scene, change) => {
      const { page, fakeServer, issuer } = scene;
      change({ status: "authenticating", sign_in: signIn({ url: authorize(issuer, "done"), device_code: "ABCD-12345", device_code_until: inSeconds(800) }) });
      await person.press(".device-code .copy");
      await page.waitForSelector("[data-device-code='ABCD-12345']");
      await signInAtIssuer(person, scene);
      await person.press("#tab-desktop");
      await typesIntoDesktop(person, page, fakeServer);
    },
  },
  "remote browser": {
    provider: "demo",
    act: async (person, { page, fakeServer }, change) => {
      change({ status: "authenticating" });
      await typesIntoDesktop(person, page, fakeServer);
    },
  },
};

/** @param {Person} person @param {Page} page @param {import("../fake-server/server.mjs").FakeServer} fakeServer */
async function typesIntoDesktop(person, page, fakeServer) {
  await waitUntil("a live picture", () => page.evaluate(() => document.querySelector(".desktop-host canvas:not(.last-frame)") !== null && document.querySelector("#panel-desktop .overlay") === null));
  await person.typeIntoDesktop("Zoe");
  const typed = () => fakeServer.desktop()?.keys.filter((key) => key < 0xff00).map((key) => String.fromCharCode(key)).join("");
  await waitUntil("the text in the remote browser", () => typed() === "Zoe").catch((error) => assert.equal(typed(), "Zoe", error));
  await person.checkFocus();
}

/** Signs in from the start page to the end. @param {Person} person @param {SignInScene} scene @param {SignIn} sign_in */
export async function signInAs(person, scene, { provider, act }) {
  const { page, fakeServer, base } = scene;
  fakeServer.consent = "required";
  fakeServer.requests = [];
  await page.goto(`${base}/dashboard/remote-cli`);
  await person.press(`[data-provider=${provider}]`);
  await page.waitForSelector("[data-action=agree]");
  await person.checkFocus();
  await person.press("[data-action=agree]");
  await page.waitForSelector(".next-action");
  await person.checkFocus();
  const [id = "", session] = [...fakeServer.sessions].at(-1) ?? [];
  await act(person, scene, (part) => fakeServer.change(id, part));
  fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null });
  await page.waitForSelector("main[data-status=completed]");
  await person.checkFocus();
  const shown = await page.evaluate(() => document.querySelector("main")?.textContent ?? "");
  assert.ok(shown.includes(`${session?.provider_name} is connected as ada@example.org. You can close this page.`), shown);
}

/**
 * Loses the network while the person types a code, and gets it back: the page says so, and goes on where the person was.
 * @param {Person} person
 * @param {SignInScene & { setOffline: (is_offline: boolean) => Promise<unknown> }} scene
 */
export async function losesNetworkWhileTyping(person, scene) {
  const { page, fakeServer, base, setOffline } = scene;
  const session = fakeServer.add({ status: "authenticating", lanes: ["link", "terminal"], sign_in: signIn({ url: authorize(scene.issuer, "one#two"), prompt: CLAUDE_PROMPT }) });
  await page.goto(`${base}/dashboard/remote-cli/auth?session=${session.id}&provider=codex`);
  await person.type("#paste-code", "one");
  await page.evaluate(() => Object.assign(window, { isSamePage: true }));
  await setOffline(true);
  const shows = (/** @type {string} */ text) => waitUntil(text, () => page.evaluate((wanted) => document.querySelector(".status")?.textContent?.includes(wanted), text));
  await shows("Connection lost. Reconnecting…");
  assert.ok(await page.evaluate(() => document.querySelector("#paste-code")?.matches(":disabled")), "what needs the server is off");
  await setOffline(false);
  await shows("Your turn");
  await person.checkFocus();
  await person.type("#paste-code", "#two");
  await person.press(".paste-form button[type=submit]");
  await waitUntil("the whole code", () => fakeServer.requests.some((call) => call.path.endsWith("/paste") && call.body.text === "one#two"));
  assert.ok(await page.evaluate(() => "isSamePage" in window), "the page was not loaded again");
}

/**
 * Makes the tools of all sign-ins available, and their starts short.
 * @param {import("../fake-server/server.mjs").FakeServer} fakeServer
 */
export function installTools(fakeServer) {
  fakeServer.start_delay_ms = 0;
  fakeServer.providers = fakeServer.providers.map((one) => ({ ...one, available: true, version: one.version ?? "1", unavailable: null }));
}

/** Starts the pages of an identity provider. The caller must close them. */
export async function startIssuer() {
  const server = createServer((request, response) => {
    const query = new URL(request.url ?? "/", "http://issuer").searchParams;
    const escaped = (query.get("answer") ?? "").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
    const page = query.has("asks_consent")
      ? `<form><input type="hidden" name="answer" value="${escaped}"><button>Allow</button></form>`
      : `<pre id="text">${escaped}</pre>`;
    response.writeHead(200, { "Content-Type": "text/html" }).end(`<title>Issuer</title>${page}`);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", () => done(undefined)));
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return {
    issuer: `http://127.0.0.1:${address.port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
