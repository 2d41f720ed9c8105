// Every shape of a sign-in in Firefox, by mouse and by keyboard alone, and by touch at the size of a phone: at two sizes of the window, with
// ANTEROOM_TEST_FULL=1 at four.

import test, { after, before } from "node:test";
import { asPlaywright, launchFirefox, runFirefoxScene } from "../firefox.mjs";
import { WAYS } from "./people.mjs";
import { installTools, losesNetworkWhileTyping, SIGN_INS, signInAs, startIssuer } from "./sign-ins.mjs";
import { SIZES } from "./sizes.mjs";

/** @type {import("puppeteer-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof startIssuer>>} */
let pages;
before(async () => {
  [browser, pages] = await Promise.all([launchFirefox({ has_touch: true }), startIssuer()]);
});
after(async () => {
  await browser.close();
  pages.close();
});

/** @param {import("../firefox.mjs").FirefoxScene} scene @returns {import("./sign-ins.mjs").SignInScene} */
function signInScene({ page, fakeServer, base }) {
  const opened = async () => {
    const target = await page.browserContext().waitForTarget((one) => one.url().startsWith(pages.issuer));
    const tab = await target.page();
    if (tab === null) throw new Error("the new tab has no page");
    return asPlaywright(tab);
  };
  return { page: asPlaywright(page), fakeServer, base, issuer: pages.issuer, opened };
}

const FEWER_SIZES = ["390x844", "1280x800"];
const sizes = process.env.ANTEROOM_TEST_FULL ? SIZES : SIZES.filter(({ size }) => FEWER_SIZES.includes(size));
for (const { size, width, height, is_phone } of sizes) {
  test(`Firefox: sign-ins at ${size}`, async (size_test) => {
    await runFirefoxScene(browser, async ({ page, fakeServer, base, setOffline }) => {
      await page.setViewport({ width, height });
      installTools(fakeServer);
      const scene = signInScene({ page, fakeServer, base, setOffline });
      for (const [way, personOn] of Object.entries(WAYS)) {
        if (way === "touch" && !is_phone) continue;
        for (const [name, sign_in] of Object.entries(SIGN_INS)) {
          await size_test.test(`${name}, by ${way}`, () => signInAs(personOn(scene.page), scene, sign_in));
        }
      }
    });
  });
}

for (const [way, personOn] of Object.entries(WAYS)) {
  test(`Firefox: a network that is lost while a code is typed, by ${way}`, async () => {
    await runFirefoxScene(browser, (scene) => losesNetworkWhileTyping(personOn(asPlaywright(scene.page)), { ...signInScene(scene), setOffline: scene.setOffline }));
  });
}
