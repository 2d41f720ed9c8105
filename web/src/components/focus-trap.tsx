// A place for something that lives longer than the component that shows it: the desktop's picture, the terminal.
// The keyboard belongs to what is inside, so there is a way out that it does not swallow: Shift+F6.

import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";

interface Placeable {
  attach(place: HTMLElement): void;
  focus(): void;
}

interface PlaceProps {
  thing: Placeable;
  label: string;
  /** Where focus goes on Shift+F6: an element's id. */
  out: string;
  children?: ComponentChildren;
}

export function Place({ thing, label, out, children }: PlaceProps) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    thing.attach(element);
    const leave = (event: KeyboardEvent) => {
      if (event.key !== "F6" || !event.shiftKey) return;
      event.preventDefault();
      event.stopPropagation();
      document.getElementById(out)?.focus();
    };
    const enter = (event: FocusEvent) => {
      if (event.target === element) thing.focus();
    };
    element.addEventListener("keydown", leave, { capture: true });
    element.addEventListener("focus", enter);
    return () => {
      element.removeEventListener("keydown", leave, { capture: true });
      element.removeEventListener("focus", enter);
    };
  }, [thing, out]);
  return (
    <div class="place-frame">
      <div
        ref={place}
        class="place"
        role="application"
        tabIndex={0}
        aria-label={`${label}. Keys go to the machine; Shift+F6 leaves it.`}
      />
      {children}
    </div>
  );
}
