// Seeing and acting on the machine's desktop through the page's canvas alone: what a person has.

import { until } from "../browser.mjs";

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {{ r: number, g: number, b: number }} Colour */
/** @typedef {{ pixels: number, left: number, top: number, right: number, bottom: number }} Patch in canvas pixels */

/** The live canvas; a `.ghost` is the dimmed last picture of a lost connection. */
export const CANVAS = ".desktop-host canvas:not(.ghost)";

/** Lossy encodings move a colour a little. */
const TOLERANCE = 8;
/** A row of the patch has at least this many pixels of the colour; stray ones elsewhere do not count. */
const ROW_PIXELS_MIN = 24;

/**
 * Where a colour fills something wide on the desktop; `null` when it does not.
 * @param {Page} page
 * @param {Colour} colour
 * @param {number} pixels_min
 * @returns {Promise<Patch | null>}
 */
export async function findColour(page, colour, pixels_min) {
  const patch = await page.evaluate(
    ({ selector, wanted, tolerance, row_min }) => {
      const canvas = document.querySelector(selector);
      if (!(canvas instanceof HTMLCanvasElement) || canvas.width === 0 || canvas.height === 0) return null;
      const { width, height } = canvas;
      const data = canvas.getContext("2d")?.getImageData(0, 0, width, height).data;
      if (data === undefined) return null;
      const near = (/** @type {number} */ at) =>
        Math.abs((data[at] ?? 0) - wanted.r) <= tolerance &&
        Math.abs((data[at + 1] ?? 0) - wanted.g) <= tolerance &&
        Math.abs((data[at + 2] ?? 0) - wanted.b) <= tolerance;
      const found = { pixels: 0, left: width, top: height, right: 0, bottom: 0 };
      for (let y = 0; y < height; y += 1) {
        let [count, first, last] = [0, width, 0];
        for (let x = 0; x < width; x += 1) {
          if (!near((y * width + x) * 4)) continue;
          count += 1;
          first = Math.min(first, x);
          last = x;
        }
        if (count < row_min) continue;
        found.pixels += count;
        found.left = Math.min(found.left, first);
        found.right = Math.max(found.right, last);
        found.top = Math.min(found.top, y);
        found.bottom = y;
      }
      return found;
    },
    { selector: CANVAS, wanted: colour, tolerance: TOLERANCE, row_min: ROW_PIXELS_MIN },
  );
  return patch !== null && patch.pixels >= pixels_min ? patch : null;
}

/**
 * Waits until a colour fills something on the desktop.
 * @param {Page} page @param {string} what @param {Colour} colour @param {number} pixels_min @param {number} ms_max
 */
export function colourAppears(page, what, colour, pixels_min, ms_max) {
  return until(what, () => findColour(page, colour, pixels_min), ms_max, 500);
}

/**
 * How many dark pixels a part of the desktop has: more after something was written there.
 * @param {Page} page
 * @param {{ left: number, top: number, right: number, bottom: number }} part in canvas pixels
 * @returns {Promise<number>}
 */
export function darkPixels(page, part) {
  return page.evaluate(
    ({ selector, area }) => {
      const canvas = document.querySelector(selector);
      if (!(canvas instanceof HTMLCanvasElement) || canvas.width === 0) return 0;
      const [width, height] = [area.right - area.left, area.bottom - area.top];
      const data = canvas.getContext("2d")?.getImageData(area.left, area.top, width, height).data ?? new Uint8ClampedArray();
      let dark = 0;
      for (let at = 0; at < data.length; at += 4) {
        if ((data[at] ?? 255) < 110 && (data[at + 1] ?? 255) < 110 && (data[at + 2] ?? 255) < 110) dark += 1;
      }
      return dark;
    },
    { selector: CANVAS, area: part },
  );
}

/**
 * Clicks a point of the desktop with the pointer, as a person does: move there, press, let go.
 * @param {Page} page @param {number} x in canvas pixels @param {number} y
 */
export async function clickDesktop(page, x, y) {
  const place = await page.evaluate((selector) => {
    const canvas = document.querySelector(selector);
    if (!(canvas instanceof HTMLCanvasElement)) return null;
    canvas.scrollIntoView({ block: "center" });
    const box = canvas.getBoundingClientRect();
    return { left: box.left, top: box.top, scale_x: box.width / canvas.width, scale_y: box.height / canvas.height };
  }, CANVAS);
  if (place === null) throw new Error("there is no desktop to click on");
  const [to_x, to_y] = [place.left + x * place.scale_x, place.top + y * place.scale_y];
  await page.mouse.move(to_x - 6, to_y - 4);
  await page.mouse.move(to_x, to_y, { steps: 3 });
  await page.mouse.down();
  await new Promise((done) => setTimeout(done, 120));
  await page.mouse.up();
}

/** @param {Patch} patch */
export function centre(patch) {
  return { x: Math.round((patch.left + patch.right) / 2), y: Math.round((patch.top + patch.bottom) / 2) };
}
