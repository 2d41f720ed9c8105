// The real journeys' steps, kept working against the stand-in: they run against real machines elsewhere (e2e/real).

import test from "node:test";
import { inSeconds, signIn } from "../fake-server/samples.mjs";
import { playCodex, playDemo } from "../real/play.mjs";
import { scene } from "./scene.mjs";

/** @param {import("./scene.mjs").Stage} stage */
const travel = ({ page }) => ({ page, shoot: async () => {}, say: () => {}, slow_ms_max: 20_000 });

test("the Codex journey sees the desktop, the code and the end", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, base } = stage;
    await page.goto(`${base}/dashboard/remote-cli`);
    fakeServer.onDesktop = (_, id) => {
      const sign_in = signIn({ url: "https://auth.openai.com/codex/device", device_code: "ABCD-12345", device_code_until: inSeconds(800) });
      fakeServer.change(id, { status: "authenticating", sign_in });
      setTimeout(() => fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null }), 1_500);
    };
    await playCodex(travel(stage));
  });
});

test("the demo journey types a name, allows, and sees the end, on the canvas alone", async () => {
  await scene({}, async (stage) => {
    const { page, fakeServer, base } = stage;
    await page.goto(`${base}/dashboard/remote-cli`);
    fakeServer.onDesktop = (rfb, id) => {
      let consent = false;
      rfb.box(0, 0, 800, 500, 0xf4, 0xf4, 0xf2);
      rfb.box(240, 200, 320, 50, 255, 255, 255);
      rfb.box(330, 274, 140, 54, 0x1f, 0x4b, 0x99);
      rfb.onkey = (keysym) => {
        if (keysym > 0x20 && keysym < 0x7f && !consent) rfb.box(250 + rfb.keys.length * 12, 218, 8, 14, 20, 20, 20);
        if (keysym !== 0xff0d || consent) return;
        consent = true;
        rfb.box(0, 0, 800, 500, 0xf4, 0xf4, 0xf2);
        rfb.box(220, 200, 360, 120, 0x0a, 0x7d, 0x33);
      };
      rfb.onclick = ({ x, y }) => {
        if (!consent || x < 220 || x > 580 || y < 200 || y > 320) return;
        rfb.box(0, 0, 800, 500, 0xf4, 0xf4, 0xf2);
        fakeServer.change(id, { status: "completed", credential: fakeServer.credentials[0] ?? null });
      };
    };
    await playDemo(travel(stage));
  });
});
