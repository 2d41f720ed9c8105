// Pictures of every state of the pages against the fake server: npm run screenshots [-- NAME…]
//
// It builds the pages, writes docs/pages/STATE-DEVICE.webp and docs/pages/README.md, which lists them. With names only states that begin
// with one of these are taken again.

import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ADMIN_STATES, addSessions } from "./pages/admin-states.mjs";
import { closeBrowser, runScene } from "./pages/scene.mjs";
import { SIGN_IN_STATES } from "./pages/sign-in-states.mjs";
import { STATES } from "./pages/states.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const PICTURES = join(HERE, "../../docs/pages");
const BYTES_MAX = 40_000;
const BYTES_SUM_MAX = 3_000_000;
const HEIGHT_PX_MAX = 1_600;
/** How much a picture is reduced until it is small enough: its scale and the quality of WebP. */
const REDUCTIONS = [[1, 0.82], [1, 0.65], [1, 0.45], [0.75, 0.7], [0.75, 0.45], [0.6, 0.5]];

const DEVICES = /** @type {const} */ ({
  laptop: { viewport: { width: 1280, height: 800 }, colorScheme: "light" },
  phone: { viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true, isMobile: true, deviceScaleFactor: 1.5 },
});
/** @typedef {keyof typeof DEVICES} Device */
/** @typedef {import("./pages/scene.mjs").Scene} Scene */

/** Some states of a sign-in; the others are in the table of all states. @param {string[]} names */
function pick(names) {
  return Object.fromEntries(names.map((name) => [name, async (/** @type {Scene} */ scene) => SIGN_IN_STATES[name]?.(scene)]));
}

/** Every state by the name of its picture. @type {Record<string, (scene: Scene) => Promise<unknown>>} */
const OPENERS = {
  ...pick(["queue", "code", "link", "remote-browser", "offline", "failure", "connected"]),
  ...STATES,
  ...Object.fromEntries(Object.entries(ADMIN_STATES).map(([name, open]) => [`admin-${name}`, (scene) => open(scene, addSessions(scene))])),
};

/**
 * Compresses a picture as WebP, which the browser does: Playwright writes only PNG and JPEG.
 * @param {import("playwright-core").BrowserContext} context @param {Buffer} png
 */
async function toWebp(context, png) {
  const page = await context.newPage();
  try {
    for (const reduction of REDUCTIONS) {
      const base64 = await page.evaluate(
        async ([url, scale, quality]) => {
          const image = new Image();
          image.src = String(url);
          await image.decode();
          const canvas = document.createElement("canvas");
          canvas.width = Math.round(image.naturalWidth * Number(scale));
          canvas.height = Math.round(image.naturalHeight * Number(scale));
          canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
          return canvas.toDataURL("image/webp", Number(quality)).split(",")[1] ?? "";
        },
        [`data:image/png;base64,${png.toString("base64")}`, ...reduction],
      );
      const webp = Buffer.from(base64, "base64");
      if (webp.length <= BYTES_MAX) return webp;
    }
    throw new Error(`a picture is larger than ${BYTES_MAX} bytes in every size`);
  } finally {
    await page.close();
  }
}

/** @param {string} state @param {Device} device */
async function take(state, device) {
  const options = DEVICES[device];
  await runScene({ ...options, reducedMotion: "reduce" }, async (scene) => {
    await OPENERS[state]?.(scene);
    const height = await scene.page.evaluate(() => document.documentElement.scrollHeight);
    const clip = { x: 0, y: 0, width: options.viewport.width, height: Math.min(Math.max(height, options.viewport.height), HEIGHT_PX_MAX) };
    const png = await scene.page.screenshot({ fullPage: true, clip });
    await writeFile(join(PICTURES, `${state}-${device}.webp`), await toWebp(scene.page.context(), png));
  });
}

/** @param {string[]} names of all pictures */
function toReadme(names) {
  const picture = (/** @type {string} */ name) => (names.includes(`${name}.webp`) ? `![${name}](${name}.webp)` : "");
  const states = Object.keys(OPENERS).filter((state) => names.some((name) => name.startsWith(`${state}-`)));
  const rows = states.map((state) => `| ${state.replaceAll("-", " ")} | ${picture(`${state}-laptop`)} | ${picture(`${state}-phone`)} |`);
  return [
    "# Pictures of the pages",
    "",
    "`npm run screenshots` in `web/` takes them of the states in `web/e2e/pages/states.mjs`, `sign-in-states.mjs` and `admin-states.mjs`, against a fake server: 1280×800 in light, 390×844 in dark colours.",
    "",
    "| state | laptop | phone |",
    "|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

const built = spawnSync(process.execPath, [join(HERE, "../build.mjs")], { stdio: "inherit" });
if (built.status !== 0) process.exit(built.status ?? 1);
await mkdir(PICTURES, { recursive: true });
const wanted = process.argv.slice(2);
const is_wanted = (/** @type {string} */ state) => wanted.length === 0 || wanted.some((name) => state.startsWith(name));
for (const state of Object.keys(OPENERS).filter(is_wanted)) {
  for (const device of /** @type {Device[]} */ (Object.keys(DEVICES))) await take(state, device);
}
await closeBrowser();
const known = new Set(Object.keys(OPENERS).flatMap((state) => Object.keys(DEVICES).map((device) => `${state}-${device}.webp`)));
const pictures = (await readdir(PICTURES)).filter((name) => name.endsWith(".webp"));
for (const name of pictures.filter((name) => !known.has(name))) await rm(join(PICTURES, name));
const names = pictures.filter((name) => known.has(name)).sort();
await writeFile(join(PICTURES, "README.md"), toReadme(names));
const bytes = names.reduce((sum, name) => sum + statSync(join(PICTURES, name)).size, 0);
console.log(`${names.length} pictures, ${bytes} bytes`);
if (bytes > BYTES_SUM_MAX) throw new Error(`more than ${BYTES_SUM_MAX} bytes in all`);
