// A button that shows further buttons below it. Escape, a click elsewhere or leaving it by keyboard hides them.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

interface MoreMenuProps {
  /** The accessible name of the button. */
  label: string;
  children: ComponentChildren;
}

export function MoreMenu({ label, children }: MoreMenuProps) {
  const menu = useRef<HTMLDetailsElement>(null);
  const close = () => menu.current?.removeAttribute("open");
  useEffect(() => {
    const onPointerDown = (event: PointerEvent) => {
      if (event.target instanceof Node && menu.current?.contains(event.target) !== true) close();
    };
    document.addEventListener("pointerdown", onPointerDown);
    return () => document.removeEventListener("pointerdown", onPointerDown);
  }, []);
  return (
    <details
      ref={menu}
      class="more-menu"
      onKeyDown={(event) => {
        if (event.key !== "Escape" || menu.current?.open !== true) return;
        close();
        menu.current.querySelector("summary")?.focus();
      }}
      onFocusOut={({ relatedTarget, currentTarget }) => {
        if (relatedTarget instanceof Node && !currentTarget.contains(relatedTarget)) close();
      }}
    >
      <summary class="button small" aria-label={label}>
        <span aria-hidden="true">⋯</span>
      </summary>
      <div class="more-menu-panel" onClick={close}>
        {children}
      </div>
    </details>
  );
}
