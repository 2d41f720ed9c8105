// How many pixels the machine's desktop has: its own number, or one for each CSS pixel or screen pixel of its frame on the page.
//
// Programs in the machine do not know the pixel ratio of the person's screen: with one pixel for each screen pixel, everything is sharper
// and smaller. So the person chooses it.

import type RFB from "@novnc/novnc";
import { Store } from "./store";

/** `own`: the machine's size; `window`: the CSS pixels of the frame; `screen`: its screen pixels, where they are more. */
export type Resolution = "own" | "window" | "screen";

/** Four bytes of each pixel are in the memory of the machine, more than once. */
const PIXELS_MAX = 3_840 * 2_160;

export class DesktopResolution {
  readonly chosen = new Store<Resolution>("own");
  /** Screen pixels for one CSS pixel. It changes with the zoom of the browser, and when the window moves to another screen. */
  readonly screen_ratio = new Store(window.devicePixelRatio);

  constructor() {
    this.#watchScreen();
  }

  #watchScreen(): void {
    window.matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`).addEventListener(
      "change",
      () => {
        this.screen_ratio.set(window.devicePixelRatio);
        this.#watchScreen();
      },
      { once: true },
    );
  }

  /** Pixels of the desktop for one CSS pixel of a frame of this size. */
  ratioFor(width: number, height: number): number {
    if (this.chosen.value !== "screen" || width * height === 0) return 1;
    return Math.max(1, Math.min(this.screen_ratio.value, Math.sqrt(PIXELS_MAX / (width * height))));
  }

  /** Returns noVNC's class that asks the machine for this resolution. noVNC itself asks for one pixel for each CSS pixel. */
  extend(base: typeof RFB): typeof RFB {
    const ratioFor = (width: number, height: number) => this.ratioFor(width, height);
    // noVNC uses the size of its element for the request and for the scale; only the request is changed.
    let is_request = false;
    return class extends base {
      override _requestRemoteResize(): void {
        is_request = true;
        super._requestRemoteResize();
        is_request = false;
      }

      override _screenSize(): { w: number; h: number } {
        const { w, h } = super._screenSize();
        const ratio = ratioFor(w, h);
        return is_request ? { w: Math.round(w * ratio), h: Math.round(h * ratio) } : { w, h };
      }
    };
  }

  /** Makes the picture in this frame a whole number of the desktop's pixels wide and high, and not blurred if they are the screen's. */
  fitPicture(frame: HTMLElement): void {
    const ratio = this.ratioFor(frame.clientWidth, frame.clientHeight);
    frame.style.setProperty("--desktop-pixel", `${1 / ratio}px`);
    frame.classList.toggle("in-screen-pixels", this.chosen.value !== "own" && ratio === this.screen_ratio.value);
  }
}
