// The states of a person's pages at four sizes of the window.

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { resultsDirectory } from "../results.mjs";
import { layoutFaults } from "./layout.mjs";
import { runScene } from "./scene.mjs";
import { SIGN_IN_STATES } from "./sign-in-states.mjs";
import { SIZES, viewportOf } from "./sizes.mjs";

/** @typedef {import("./scene.mjs").Scene} Scene */

const LARGE = "2560x1300";

test("the check of the layout finds a wide page, a low button, a covered control and a small target", async () => {
  await runScene({ viewport: { width: 400, height: 300 } }, async ({ page, base }) => {
    await page.goto(`${base}/dashboard/remote-cli/auth`);
    await page.evaluate(() => {
      document.body.innerHTML = "<main><h1>Faults</h1><div id='wide'>wide</div><button id='small'>s</button><button id='low' class='primary'>low</button><p id='over'>over</p></main>";
      const style = (/** @type {string} */ id, /** @type {Partial<CSSStyleDeclaration>} */ part) => Object.assign(document.getElementById(id)?.style ?? {}, part);
      style("wide", { width: "900px" });
      style("small", { display: "block", width: "12px", height: "12px", minHeight: "0", padding: "0" });
      style("low", { position: "absolute", top: "400px", left: "0", width: "100px", height: "40px" });
      style("over", { position: "absolute", top: "390px", left: "0", width: "120px", height: "90px", margin: "0" });
    });
    const faults = await layoutFaults(page);
    assert.deepEqual(faults.map((fault) => fault.replace(/\d+/g, "n").split(":")[0]), ["scrolls sideways", "below the first screen (n px)", "n × n px", 'covered by <p id="over" style="position']);
  });
});

/** The share of the window that the picture has, by its wider side. @param {Scene} scene */
async function shareOfPicture({ page }) {
  const box = await page.locator("#panel-desktop .focus-trap-frame").boundingBox();
  const window = page.viewportSize();
  assert.ok(box && window);
  return Math.max(box.width / window.width, box.height / window.height);
}

for (const { size, ...window } of SIZES) {
  test(`${size}: no state scrolls sideways, hides its next action, covers a control or has a small target`, async () => {
    await runScene(viewportOf(window), async (scene) => {
      const shots = await resultsDirectory("screenshots");
      /** @type {Record<string, string[]>} */
      const faults = {};
      for (const [state, reach] of Object.entries(SIGN_IN_STATES)) {
        await reach(scene);
        faults[state] = await layoutFaults(scene.page);
        if (state === "remote-browser" && size === LARGE) assert.ok((await shareOfPicture(scene)) > 0.7, `${await shareOfPicture(scene)}`);
        await scene.page.screenshot({ path: join(shots, `size-${size}-${state}.png`) });
      }
      assert.deepEqual(faults, Object.fromEntries(Object.keys(SIGN_IN_STATES).map((state) => [state, []])));
    });
  });
}
