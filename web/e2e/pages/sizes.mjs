// The sizes of the window at which people use the pages: a laptop, a phone in both orientations, a large screen.

/** In CSS pixels. @type {{ size: string, width: number, height: number, is_phone: boolean }[]} */
export const SIZES = [
  { size: "1280x800", width: 1280, height: 800, is_phone: false },
  { size: "390x844", width: 390, height: 844, is_phone: true },
  { size: "844x390", width: 844, height: 390, is_phone: true },
  { size: "2560x1300", width: 2560, height: 1300, is_phone: false },
];

/** The options of Playwright's browser for a size. @param {{ width: number, height: number, is_phone: boolean }} window */
export function viewportOf({ width, height, is_phone }) {
  return { viewport: { width, height }, ...(is_phone ? { hasTouch: true, isMobile: true } : {}) };
}
