// A container for the desktop or the terminal, which take all keys. Shift+F6 moves the focus out of it, to what follows.

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
  /** The id of the element with the controls that Shift+F6 leads to. */
  exit_id: string;
  children?: ComponentChildren;
}

/** Moves the focus to the first control in the element with this id. */
function focusFirstControl(id: string): void {
  const controls = document.getElementById(id)?.querySelectorAll<HTMLElement>("button:enabled, input:enabled, a[href], summary") ?? [];
  [...controls].find((control) => control.getClientRects().length > 0)?.focus();
}

/** Whether this key leaves the desktop or the terminal. */
export function isLeaveKey(event: KeyboardEvent): boolean {
  return event.key === "F6" && event.shiftKey;
}

export function FocusTrap({ target, label, exit_id, children }: FocusTrapProps) {
  const container = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = container.current;
    if (element === null) return undefined;
    target.attach(element);
    const onKeyDown = (event: KeyboardEvent) => {
      if (!isLeaveKey(event)) return;
      event.preventDefault();
      event.stopPropagation();
      focusFirstControl(exit_id);
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
      <div ref={container} class="focus-trap" role="group" tabIndex={0} aria-label={label} />
      {children}
    </div>
  );
}
