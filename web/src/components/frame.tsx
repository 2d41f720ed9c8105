// What every page has around it: skip link, header, main landmark.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

interface FrameProps {
  title: string;
  /** Shown at the right of the header. */
  aside?: ComponentChildren;
  /** `data-page` and `data-status` of the main element: what the page is and what it shows. */
  page: string;
  status?: string;
  wide?: boolean;
  children: ComponentChildren;
}

export function Frame(props: FrameProps) {
  useEffect(() => {
    document.title = props.title === "Anteroom" ? props.title : `${props.title} · Anteroom`;
  }, [props.title]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="/dashboard/remote-cli">
          <Mark />
          Anteroom
        </a>
        {props.aside}
      </header>
      <main
        id="main"
        tabIndex={-1}
        class={props.wide === true ? "wide" : "narrow"}
        data-page={props.page}
        data-status={props.status}
      >
        {props.children}
      </main>
    </>
  );
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M8 27V8.5L20 5v22M20 8h4.5v19M4.5 27h23" />
      <circle cx="16.4" cy="16.8" r="1.4" />
    </svg>
  );
}
