// Every state of the pages that the other tests reach on one device only: on a phone in the dark, on a small laptop, and in German, whose
// words are the longest, on a phone.

import assert from "node:assert/strict";
import test from "node:test";
import { accessibilityFaults, lowContrastTexts } from "./accessibility.mjs";
import { PHONE, runScene } from "./scene.mjs";
import { STATES } from "./states.mjs";

for (const [device, options] of /** @type {const} */ ([
  ["dark-phone", { viewport: PHONE, colorScheme: "dark", hasTouch: true, isMobile: true, deviceScaleFactor: 2 }],
  ["laptop", { viewport: { width: 1280, height: 800 }, colorScheme: "light" }],
  ["german-phone", { viewport: PHONE, colorScheme: "light", hasTouch: true, isMobile: true, deviceScaleFactor: 2, locale: "de-DE" }],
])) {
  for (const [name, open] of Object.entries(STATES)) {
    test(`${device}: the state ${name} is accessible`, async () => {
      await runScene(options, async (scene) => {
        await open(scene);
        await scene.shoot(`state-${name}-${device}`);
        assert.deepEqual(await accessibilityFaults(scene.page), []);
        assert.deepEqual(await lowContrastTexts(scene.page), []);
      });
    });
  }
}
