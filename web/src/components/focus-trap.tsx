// A container for the desktop or the terminal, which take all keys. Shift+F6 moves the focus out of it.

import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";

/** An element with a longer life than the component that shows it: it is attached, not rendered. */
interface Attachable {
  attach(container: HTMLElement): void;
  focus(): void;
}

interface FocusTrapProps {
  target: Attachable;
  label: string;
  /** The id of the element that Shift+F6 focuses. */
  exit_id: string;
  children?: ComponentChildren;
}

export function FocusTrap({ target, label, exit_id, children }: FocusTrapProps) {
  const container = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = container.current;
    if (element === null) return undefined;
    target.attach(element);
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key !== "F6" || !event.shiftKey) return;
      event.preventDefault();
      event.stopPropagation();
      document.getElementById(exit_id)?.focus();
    };
    const onFocus = (event: FocusEvent) => {
      if (event.target === element) target.focus();
    };
    element.addEventListener("keydown", onKeyDown, { capture: true });
    element.addEventListener("focus", onFocus);
    return () => {
      element.removeEventListener("keydown", onKeyDown, { capture: true });
      element.removeEventListener("focus", onFocus);
    };
  }, [target, exit_id]);
  return (
    <div class="focus-trap-frame">
      <div
        ref={container}
        class="focus-trap"
        role="application"
        tabIndex={0}
        aria-label={`${label}. Keys are sent to the machine; Shift+F6 leaves it.`}
      />
      {children}
    </div>
  );
}
