// What a person types, pastes and copies: where it arrives, and where it does not.

import assert from "node:assert/strict";
import test from "node:test";
import { waitUntil } from "../browser.mjs";
import { PHONE, openDesktop, openSession, runScene } from "./scene.mjs";

const PASSWORD = "MySecret-é@{}[]|~€漢😀-correct horse 40 ch.";

/** The keys of a text: the ones that a layout may lack are pressed with Control first, so that the machine has them. @param {string} text */
const keysOf = (text) => {
  const typed = keysyms(text);
  return [0xffe3, ...new Set(typed.filter((keysym) => keysym > 0x7e)), ...typed];
};

/** @param {string} text */
const keysyms = (text) => [...text].map((character) => {
  const point = character.codePointAt(0) ?? 0;
  return point <= 0xff ? point : 0x01000000 + point;
});

/** @param {import("./scene.mjs").Scene} scene */
function desktopOf({ fakeServer }) {
  const desktop = fakeServer.desktop();
  assert.ok(desktop);
  return desktop;
}

test("r27: the type box types a masked password into the desktop, key by key, and sends it nowhere else", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    await openSession(scene);
    await openDesktop(page);
    assert.equal(await page.getAttribute("#type-text", "type"), "password");
    await page.fill("#type-text", PASSWORD);
    await shoot("type-box");
    await page.click(".type-box >> text=Show");
    assert.equal(await page.getAttribute("#type-text", "type"), "text");
    await page.click(".type-box >> text=then Enter");
    const requests = fakeServer.requests.length;
    await page.click(".type-box >> text=Type it");
    const keys = await waitUntil("the keys", () => {
      const pressed = desktopOf(scene).keys;
      return pressed.at(-1) === 0xff0d ? pressed : null;
    });
    assert.deepEqual(keys, [...keysOf(PASSWORD), 0xff0d]);
    await page.waitForSelector(".type-box >> text=Typed into the remote browser. Not stored.");
    assert.equal(await page.inputValue("#type-text"), "");
    const sent = fakeServer.requests.slice(requests).map((call) => call.path);
    assert.deepEqual(sent.filter((path) => !path.endsWith("/heartbeat")), []);
    assert.equal(fakeServer.terminal_input, "");
    assert.ok(!(await page.content()).includes("MySecret"), "not kept");
  });
});

test("held modifiers do not change what the type box types", async () => {
  await runScene({}, async (scene) => {
    const { page } = scene;
    await openSession(scene);
    await openDesktop(page);
    await page.click(".desktop-tools >> text=Keys");
    await page.click(".keys-bar >> text=Ctrl");
    await page.fill("#type-text", "q");
    await page.click(".type-box >> text=Type it");
    await waitUntil("the keys", () => desktopOf(scene).keys.at(-1) === 0x71);
    assert.equal(await page.getAttribute(".keys-bar >> text=Ctrl", "aria-pressed"), "false");
  });
});

test("Ctrl+V in the desktop gives the machine the person's clipboard before the key", async () => {
  await runScene({ permissions: ["clipboard-read", "clipboard-write"] }, async (scene) => {
    const { page } = scene;
    await openSession(scene);
    await openDesktop(page);
    await page.evaluate(() => navigator.clipboard.writeText("own text"));
    await page.click(".desktop-host canvas");
    await page.keyboard.press("Control+v");
    await waitUntil("the key", () => desktopOf(scene).keys.includes(0x76));
    assert.deepEqual(desktopOf(scene).cut_texts, ["own text"]);
    assert.equal(desktopOf(scene).keys.filter((key) => key === 0x76).length, 1);
  });
});

test("a text that is copied in the machine right after input comes into the person's clipboard, a later one only into the panel", async () => {
  await runScene({ permissions: ["clipboard-read", "clipboard-write"] }, async (scene) => {
    const { page } = scene;
    await openSession(scene);
    await page.evaluate(() => navigator.clipboard.writeText("the person's"));
    await openDesktop(page);
    desktopOf(scene).copy("unasked");
    await page.waitForSelector("text=A text was copied in the machine. Clipboard has it.");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "the person's");
    await page.click(".desktop-host canvas");
    desktopOf(scene).copy("from the machine");
    await page.waitForSelector("text=Copied to your clipboard.");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "from the machine");
    await page.click(".desktop-tools >> text=Clipboard");
    assert.equal(await page.inputValue("#copied-text"), "from the machine");
    await page.fill("#clipboard-text", "into the machine");
    await page.click("text=Put into the machine's clipboard");
    await waitUntil("the text", () => desktopOf(scene).cut_texts.includes("into the machine"));
  });
});

/** Opens the terminal's tab. @param {import("./scene.mjs").Scene} scene @param {Partial<import("../fake-server/samples.mjs").Session>} [part] */
async function openTerminal(scene, part) {
  await openSession(scene, part);
  await openDesktop(scene.page);
  await scene.page.click("#tab-terminal");
  await waitUntil("the terminal", async () => ((await scene.page.textContent(".xterm-rows").catch(() => "")) ?? "").includes("codex login"));
}

/** Counts pixels that are not background below the baseline of a row with underscores only. @param {import("./scene.mjs").Scene} scene */
async function inkOfUnderscores({ page }) {
  const row = page.locator(".xterm-rows > div", { hasText: "________" }).first();
  const image = (await row.screenshot()).toString("base64");
  return page.evaluate(async (png) => {
    const picture = new Image();
    picture.src = `data:image/png;base64,${png}`;
    await picture.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [picture.width, picture.height];
    const context = canvas.getContext("2d");
    context?.drawImage(picture, 0, 0);
    const data = context?.getImageData(0, 0, canvas.width, canvas.height).data ?? new Uint8ClampedArray();
    let ink = 0;
    for (let at = 0; at < data.length; at += 4) if ((data[at] ?? 0) > 120) ink += 1;
    return ink;
  }, image);
}

test("the terminal shows underscores", async () => {
  await runScene({}, async (scene) => {
    await openTerminal(scene);
    scene.fakeServer.writeTerminal("\r\n________________________________\r\nclient_id\r\n");
    await scene.page.locator(".xterm-rows > div", { hasText: "client_id" }).waitFor();
    assert.ok((await inkOfUnderscores(scene)) > 100);
    await scene.shoot("terminal");
  });
});

test("Ctrl+C copies a selection of the terminal, without one it interrupts; Ctrl+V pastes", async () => {
  await runScene({ permissions: ["clipboard-read", "clipboard-write"] }, async (scene) => {
    const { page, fakeServer } = scene;
    await openTerminal(scene);
    const row = await page.locator(".xterm-rows > div", { hasText: "Follow the steps below" }).boundingBox();
    assert.ok(row);
    await page.mouse.dblclick(row.x + 12, row.y + row.height / 2);
    await page.keyboard.press("Control+c");
    await waitUntil("the copied word", () => page.evaluate(async () => (await navigator.clipboard.readText()) === "Follow"));
    assert.equal(fakeServer.terminal_input, "");
    await page.keyboard.press("Control+c");
    await waitUntil("the interrupt", () => fakeServer.terminal_input === "\x03");
    for (const keys of ["Control+v", "Control+Shift+v"]) {
      fakeServer.terminal_input = "";
      await page.keyboard.press(keys);
      await waitUntil(`the text after ${keys}`, () => fakeServer.terminal_input === "Follow");
    }
  });
});

test("a link of the terminal opens in a new tab that cannot reach this one", async () => {
  await runScene({}, async (scene) => {
    const { page, base, fakeServer } = scene;
    await openTerminal(scene);
    fakeServer.writeTerminal(`\r\n${base}/login?client_id=a_b\r\n`);
    const row = page.locator(".xterm-rows > div", { hasText: "client_id=a_b" });
    await row.waitFor();
    const box = await row.boundingBox();
    assert.ok(box);
    await page.mouse.move(box.x + 80, box.y + box.height / 2);
    await page.waitForSelector(".terminal-host[title*='client_id=a_b']");
    const opened = page.context().waitForEvent("page");
    await page.mouse.click(box.x + 80, box.y + box.height / 2);
    const tab = await opened;
    await tab.waitForURL(/client_id=a_b/);
    assert.equal(await tab.evaluate(() => window.opener), null);
  });
});

test("the terminal is connected only while it is shown, at its own size", async () => {
  await runScene({}, async (scene) => {
    const { page, fakeServer } = scene;
    await openTerminal(scene);
    assert.ok((fakeServer.terminal_sizes.at(-1)?.cols ?? 0) > 60);
    assert.equal(fakeServer.viewers.size, 2);
    await page.click("#tab-desktop");
    await waitUntil("the desktop alone", () => fakeServer.viewers.size === 1);
    await page.click("#tab-terminal");
    await waitUntil("both", () => fakeServer.viewers.size === 2);
  });
});

test("a phone has keys for the terminal", async () => {
  await runScene({ viewport: PHONE, hasTouch: true, isMobile: true }, async (scene) => {
    const { page, fakeServer, shoot } = scene;
    await openTerminal(scene);
    await shoot("terminal-phone");
    for (const [key, bytes] of [["Down", "\x1b[B"], ["Enter", "\r"], ["Backspace", "\x7f"], ["Tab", "\t"], ["Esc", "\x1b"]]) {
      fakeServer.terminal_input = "";
      await page.tap(`#terminal-tools [aria-label="${key}"]`);
      await waitUntil(key ?? "", () => fakeServer.terminal_input === bytes);
    }
    fakeServer.terminal_input = "";
    await page.tap("#terminal-tools >> text=Ctrl");
    await page.keyboard.type("c");
    await waitUntil("the interrupt", () => fakeServer.terminal_input === "\x03");
  });
});
