// The size of the desktop's picture on the page: fitted to its frame, or at a scale, with a part of it in view.
//
// On a touch screen a pinch changes the scale, and while a person types, the last tapped place is in view and legible. While a part is in view, one finger moves the picture; two fingers still turn the wheel.
// noVNC recognizes the gestures and sends them as events to its canvas, which this file reads first.

import { Store } from "./store";

/** Screen pixels of the page for one pixel of the desktop; `null`: the whole picture fits into the frame. */
export type Scale = number | null;

const SCALE_MAX = 3;
/** On a touch screen, a picture that would be fitted with a smaller scale than this is shown at its own size. */
const LEGIBLE_SCALE_MIN = 0.6;
/** A tapped place nearer to the border of what is in view is moved, pixels of the page. */
const MARGIN_PX = 24;

/** The detail of noVNC's gesture events. Safari has events of the same names without it. */
interface GestureDetail {
  type: string;
  clientX: number;
  clientY: number;
  magnitudeX?: number;
  magnitudeY?: number;
}

/** A gesture under way: the fingers' last point, and for a pinch the distance and scale at its start. */
type Gesture =
  | { kind: "pan"; x: number; y: number }
  | { kind: "pinch"; distance: number; scale: number };

export class DesktopZoom {
  readonly scale = new Store<Scale>(null);
  #gesture: Gesture | null = null;
  #started = false;
  #enabled = true;
  /** The last tapped place, as shares of the picture's width and height. */
  #tapped: { x: number; y: number } | null = null;
  #is_typing = false;

  /**
   * @param view has the size of the frame and scrolls
   * @param picture is inside `view`; noVNC fits its canvas into it
   */
  constructor(
    private readonly view: HTMLElement,
    private readonly picture: HTMLElement,
  ) {
    for (const type of ["gesturestart", "gesturemove", "gestureend"]) {
      view.addEventListener(type, (event) => this.#onGesture(event), { capture: true });
    }
  }

  /**
   * At each connection, and when the frame is shown while there is one. On a touch screen a picture that would be too small to read is
   * shown at its own size at first.
   */
  start(): void {
    if (this.#started) return this.#applySize();
    const fitted = this.#fittedScale();
    // Without a frame on the page there is nothing to compare with.
    if (fitted <= 0) return;
    this.#started = true;
    if (window.matchMedia("(pointer: coarse)").matches && fitted < LEGIBLE_SCALE_MIN) {
      this.setScale(1);
      this.view.scrollTo((this.view.scrollWidth - this.view.clientWidth) / 2, 0);
    }
  }

  /** A picture that is not enabled is fitted, and the machine gets all gestures. */
  setEnabled(enabled: boolean): void {
    if (!enabled) this.setScale(null);
    this.#enabled = enabled;
  }

  /** Sets whether a person types with an on-screen keyboard, which covers a part of the page. */
  setTyping(is_typing: boolean): void {
    this.#is_typing = is_typing;
    if (is_typing) this.showTapped();
  }

  /**
   * Makes the last tapped place legible and moves it into the middle of what is in view of the frame. A picture in which it is legible and in
   * view stays where it is: the person looks at it.
   */
  showTapped(): void {
    if (this.#tapped === null || !this.#enabled) return;
    if ((this.scale.value ?? this.#fittedScale()) < LEGIBLE_SCALE_MIN) this.setScale(1);
    if (this.scale.value === null) return;
    const { left, top, right, bottom } = this.view.getBoundingClientRect();
    const [first_x, last_x] = [Math.max(left, 0) - left, Math.min(right, window.innerWidth) - left];
    const [first_y, last_y] = [Math.max(top, 0) - top, Math.min(bottom, window.visualViewport?.height ?? bottom) - top];
    const [x, y] = [this.#tapped.x * this.picture.offsetWidth, this.#tapped.y * this.picture.offsetHeight];
    const [shown_x, shown_y] = [x - this.view.scrollLeft, y - this.view.scrollTop];
    if (isInside(shown_x, first_x, last_x) && isInside(shown_y, first_y, last_y)) return;
    this.view.scrollTo(x - (first_x + last_x) / 2, y - (first_y + last_y) / 2);
  }

  /** Sets the scale; the point (`x`, `y`) of the page stays where it is, by default the middle of the frame. */
  setScale(scale: Scale, x?: number, y?: number): void {
    const frame = this.view.getBoundingClientRect();
    const [at_x, at_y] = [(x ?? frame.left + frame.width / 2) - frame.left, (y ?? frame.top + frame.height / 2) - frame.top];
    const before = this.picture.getBoundingClientRect();
    const [share_x, share_y] = [(at_x + frame.left - before.left) / before.width, (at_y + frame.top - before.top) / before.height];
    this.scale.set(scale);
    this.#applySize();
    if (scale === null) return;
    this.view.scrollTo(share_x * this.picture.offsetWidth - at_x, share_y * this.picture.offsetHeight - at_y);
  }

  /** Applies the scale to a picture of another size. */
  #applySize(): void {
    const canvas = this.#canvas();
    const scale = this.scale.value;
    const fits = scale === null || canvas === null;
    this.picture.style.width = fits ? "" : `${Math.round(canvas.width * scale)}px`;
    this.picture.style.height = fits ? "" : `${Math.round(canvas.height * scale)}px`;
  }

  #canvas(): HTMLCanvasElement | null {
    return this.picture.querySelector<HTMLCanvasElement>("canvas:not(.last-frame)");
  }

  #fittedScale(): number {
    const canvas = this.#canvas();
    if (canvas === null || canvas.width === 0) return 0;
    return Math.min(this.view.clientWidth / canvas.width, this.view.clientHeight / canvas.height);
  }

  #onGesture(event: Event): void {
    if (!(event instanceof CustomEvent) || !this.#enabled) return;
    const detail = event.detail as GestureDetail;
    if (detail.type === "onetap") return this.#onTap(event.type, detail);
    if (event.type === "gesturestart") this.#gesture = this.#startedGesture(detail);
    const gesture = this.#gesture;
    if (gesture === null) return;
    event.stopImmediatePropagation();
    if (event.type === "gesturemove") this.#move(gesture, detail);
    if (event.type === "gestureend") this.#gesture = null;
  }

  /** The machine gets the tap at the start of its gesture; at its end, the picture may move. */
  #onTap(event_type: string, { clientX, clientY }: GestureDetail): void {
    const picture = this.picture.getBoundingClientRect();
    if (event_type === "gesturestart") this.#tapped = { x: (clientX - picture.left) / picture.width, y: (clientY - picture.top) / picture.height };
    if (event_type === "gestureend" && this.#is_typing) this.showTapped();
  }

  /** `null`: the machine gets the gesture. */
  #startedGesture(detail: GestureDetail): Gesture | null {
    if (detail.type === "drag" && this.scale.value !== null) return { kind: "pan", x: detail.clientX, y: detail.clientY };
    if (detail.type !== "pinch") return null;
    return { kind: "pinch", distance: distanceOf(detail), scale: this.scale.value ?? this.#fittedScale() };
  }

  #move(gesture: Gesture, detail: GestureDetail): void {
    if (gesture.kind === "pan") {
      this.view.scrollBy(gesture.x - detail.clientX, gesture.y - detail.clientY);
      gesture.x = detail.clientX;
      gesture.y = detail.clientY;
      return;
    }
    if (gesture.distance === 0) return;
    const scale = Math.min((gesture.scale * distanceOf(detail)) / gesture.distance, SCALE_MAX);
    this.setScale(scale <= this.#fittedScale() ? null : scale, detail.clientX, detail.clientY);
  }
}

function isInside(at: number, first: number, last: number): boolean {
  return at >= first + MARGIN_PX && at <= last - MARGIN_PX;
}

/** The distance of the two fingers of a pinch. */
function distanceOf(detail: GestureDetail): number {
  return Math.hypot(detail.magnitudeX ?? 0, detail.magnitudeY ?? 0);
}
