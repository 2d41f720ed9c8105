// Every shape of a sign-in, by mouse, by keyboard alone and by touch, at four sizes of the window, from the start page to its end.

import test, { after, before } from "node:test";
import { WAYS } from "./people.mjs";
import { runScene } from "./scene.mjs";
import { installTools, losesNetworkWhileTyping, SIGN_INS, signInAs, startIssuer } from "./sign-ins.mjs";
import { SIZES, viewportOf } from "./sizes.mjs";

/** @type {Awaited<ReturnType<typeof startIssuer>>} */
let pages;
before(async () => {
  pages = await startIssuer();
});
after(() => pages.close());

/** @param {Pick<import("./scene.mjs").Scene, "page" | "fakeServer" | "base">} scene @returns {import("./sign-ins.mjs").SignInScene} */
function signInScene({ page, fakeServer, base }) {
  return { page, fakeServer, base, issuer: pages.issuer, opened: () => page.context().waitForEvent("page") };
}

for (const { size, ...window } of SIZES) {
  test(`sign-ins at ${size}`, async (size_test) => {
    await runScene({ ...viewportOf(window), hasTouch: true }, async ({ page, fakeServer, base }) => {
      installTools(fakeServer);
      const scene = signInScene({ page, fakeServer, base });
      for (const [way, personOn] of Object.entries(WAYS)) {
        for (const [name, sign_in] of Object.entries(SIGN_INS)) {
          await size_test.test(`${name}, by ${way}`, () => signInAs(personOn(page), scene, sign_in));
        }
      }
    });
  });
}

for (const [way, personOn] of Object.entries(WAYS)) {
  test(`a network that is lost while a code is typed, by ${way}`, async () => {
    await runScene({ hasTouch: true }, (scene) => losesNetworkWhileTyping(personOn(scene.page), { ...signInScene(scene), setOffline: scene.setOffline }));
  });
}
