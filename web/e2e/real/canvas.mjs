// Reads and clicks the machine's desktop only through the page's canvas, like a user.

import { waitUntil } from "../browser.mjs";

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {{ r: number, g: number, b: number }} Colour */
/** @typedef {{ pixels: number, left: number, top: number, right: number, bottom: number }} Patch in canvas pixels */

/** The live canvas; `.last-frame` is the dimmed last picture of a lost connection. */
export const CANVAS = ".desktop-host canvas:not(.last-frame)";

/** Lossy encodings change colours slightly. */
const TOLERANCE = 8;
/** A row counts only with at least this many pixels of the colour, to ignore single pixels elsewhere. */
const ROW_PIXELS_MIN = 24;

/**
 * Returns the bounds of a colour that fills an area of the desktop; `null` if there are too few pixels.
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
      const matches = (/** @type {number} */ at) =>
        Math.abs((data[at] ?? 0) - wanted.r) <= tolerance &&
        Math.abs((data[at + 1] ?? 0) - wanted.g) <= tolerance &&
        Math.abs((data[at + 2] ?? 0) - wanted.b) <= tolerance;
      const found = { pixels: 0, left: width, top: height, right: 0, bottom: 0 };
      for (let y = 0; y < height; y += 1) {
        let [count, first, last] = [0, width, 0];
        for (let x = 0; x < width; x += 1) {
          if (!matches((y * width + x) * 4)) continue;
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
 * Waits until a colour fills an area of the desktop.
 * @param {Page} page @param {string} name for the error @param {Colour} colour @param {number} pixels_min @param {number} timeout_ms
 */
export function waitForColour(page, name, colour, pixels_min, timeout_ms) {
  return waitUntil(name, () => findColour(page, colour, pixels_min), timeout_ms, 500);
}

/**
 * Counts the dark pixels of a part of the desktop; text makes the number larger.
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
 * Clicks a point of the desktop like a user: move there, press, release.
 * @param {Page} page @param {number} x in canvas pixels @param {number} y
 */
export async function clickDesktop(page, x, y) {
  const canvas_box = await page.evaluate((selector) => {
    const canvas = document.querySelector(selector);
    if (!(canvas instanceof HTMLCanvasElement)) return null;
    canvas.scrollIntoView({ block: "center" });
    const box = canvas.getBoundingClientRect();
    return { left: box.left, top: box.top, scale_x: box.width / canvas.width, scale_y: box.height / canvas.height };
  }, CANVAS);
  if (canvas_box === null) throw new Error("there is no desktop to click on");
  const [to_x, to_y] = [canvas_box.left + x * canvas_box.scale_x, canvas_box.top + y * canvas_box.scale_y];
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
