// The pages for addresses where nothing is, and how pages look with the colours that the user's system forces.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { CONTENT_SECURITY_POLICY } from "../fake-server/files.mjs";
import { accessibilityFaults, lowContrastTexts } from "./accessibility.mjs";
import { axeViolations } from "./axe.mjs";
import { openSession, PHONE, runScene } from "./scene.mjs";

const ERRORS = join(dirname(fileURLToPath(import.meta.url)), "../../dist/errors");

for (const [name, options] of /** @type {const} */ ([
  ["light", {}],
  ["dark-phone", { viewport: PHONE, colorScheme: "dark", hasTouch: true, isMobile: true }],
])) {
  test(`${name}: each error page has a title, a heading, words without jargon and a next step, and is accessible`, async () => {
    const files = (await readdir(ERRORS)).filter((file) => file.endsWith(".html"));
    assert.ok(files.length > 15, files.join());
    await runScene(options, async ({ page, base, shoot }) => {
      for (const file of files) {
        const body = await readFile(join(ERRORS, file), "utf8");
        const headers = { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": CONTENT_SECURITY_POLICY };
        await page.route("**/wrong", (route) => route.fulfill({ status: Number(file.slice(0, 3)), headers, body }), { times: 1 });
        await page.goto(`${base}/wrong`);
        const heading = (await page.textContent("h1")) ?? "";
        assert.equal(await page.title(), `${heading} · Anteroom`, file);
        assert.ok(!/\b(API|JSON|HTTP|server log|token|ticket|openapi)\b/i.test(await page.innerText("main")), file);
        assert.equal(await page.locator("main a").count(), file.startsWith("421.") ? 0 : 1, file);
        assert.deepEqual(await accessibilityFaults(page), [], file);
        assert.deepEqual(await lowContrastTexts(page), [], file);
        assert.deepEqual(await axeViolations(page), [], file);
      }
      await page.goto(`${base}/nothing`);
      assert.equal(await page.textContent("h1"), "There is nothing here");
      await shoot(`error-404-${name}`);
      await page.click("text=Your connections");
      await page.waitForSelector("[data-provider]");
    });
  });
}

test("with forced colours, the states of a session are visible without their background colours", async () => {
  await runScene({ forcedColors: "active" }, async (scene) => {
    await openSession(scene);
    await scene.page.waitForSelector(".status-light");
    await scene.shoot("session-forced-colours");
    const hidden = await scene.page.evaluate(() => {
      // The colours of the system replace backgrounds, so a shape needs a border or its own colour.
      const is_visible = (/** @type {Element} */ element) => {
        const { forcedColorAdjust, borderTopWidth, borderTopStyle } = getComputedStyle(element);
        return forcedColorAdjust === "none" || (borderTopStyle !== "none" && parseFloat(borderTopWidth) > 0);
      };
      const shapes = [...document.querySelectorAll(".status-light, .step-number, [role=tab][aria-selected=true]")];
      return [shapes.length, ...shapes.filter((shape) => !is_visible(shape)).map((shape) => shape.className)];
    });
    assert.ok(Number(hidden[0]) >= 3, String(hidden));
    assert.deepEqual(hidden.slice(1), []);
  });
});
