// The frame of every page: skip link, header, main landmark.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { AudienceContext, type Audience } from "../audience";
import { texts } from "../texts";
import { LanguageSwitch } from "./language-switch";

interface FrameProps {
  title: string;
  /** `data-page` of the main element: the name of the page. */
  page: string;
  /** `data-status` of the main element: what the page shows. */
  status?: string;
  wide?: boolean;
  /** For whom errors are shown; absent: a person. */
  audience?: Audience;
  /** In the header: who is signed in. */
  bar?: ComponentChildren;
  children: ComponentChildren;
}

export function Frame(props: FrameProps) {
  useEffect(() => {
    document.title = props.title === "Anteroom" ? props.title : `${props.title} · Anteroom`;
  }, [props.title]);
  return (
    <>
      <a class="skip-link" href="#main">
        {texts.skip_to_content}
      </a>
      <header class="page-header">
        <a class="brand" href="/dashboard/remote-cli">
          <Logo />
          Anteroom
        </a>
        <div class="header-end">
          {props.bar}
          {props.page === "error" ? null : <LanguageSwitch />}
        </div>
      </header>
      <main
        id="main"
        tabIndex={-1}
        class={props.wide === true ? "wide" : "narrow"}
        data-page={props.page}
        data-status={props.status}
      >
        <AudienceContext.Provider value={props.audience ?? "person"}>{props.children}</AudienceContext.Provider>
      </main>
    </>
  );
}

export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M8 27V8.5L20 5v22M20 8h4.5v19M4.5 27h23" />
      <circle cx="16.4" cy="16.8" r="1.4" />
    </svg>
  );
}
