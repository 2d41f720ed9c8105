// What the HTML files contain before a script runs. `build.mjs` runs this in Node.

import type { VNode } from "preact";
import { renderToString } from "preact-render-to-string";
import { LoadingPage } from "./components/loading-page";
import { ERROR_WORDS, ErrorPage } from "./error-pages";
import { StartPage } from "./pages/start";

export interface HtmlFile {
  /** Its name below dist/. */
  file: string;
  title: string;
  content: string;
  /** The source of its script; `null`: it needs none. */
  script: string | null;
  /** Sources of modules that the script loads at once. */
  loads: readonly string[];
  /** Sources of its style sheets, in addition to that of every page. */
  styles?: readonly string[];
}

const app = (file: string, title: string, page: string, content: VNode): HtmlFile => ({
  file,
  title: `${title} · Anteroom`,
  content: renderToString(content),
  script: "src/app.tsx",
  loads: [`src/pages/${page}.tsx`],
});

const desktop = (
  <main class="desktop-page" data-page="desktop">
    <h1 class="visually-hidden">Desktop of the machine</h1>
  </main>
);

export const HTML_FILES: readonly HtmlFile[] = [
  app("index.html", "Connect a tool", "start", <StartPage />),
  app("session.html", "Session", "auth", <LoadingPage title="Session" page="auth" columns />),
  app("login.html", "Open Anteroom", "login", <LoadingPage title="Open Anteroom" page="login" />),
  app("sign-in-callback.html", "Signing in", "sign-in-callback", <LoadingPage title="Signing in" page="sign-in-callback" />),
  {
    file: "desktop.html",
    title: "Desktop · Anteroom",
    content: renderToString(desktop),
    script: "src/desktop-page.tsx",
    loads: ["node_modules/@novnc/novnc/core/rfb.js"],
  },
  {
    file: "admin.html",
    title: "Operators · Anteroom",
    content: renderToString(<p class="admin-loading muted">Loading…</p>),
    script: "src/admin.tsx",
    loads: [],
    styles: ["src/styles/admin-pages.css"],
  },
  ...Object.entries(ERROR_WORDS).map(([status, { title }]) => ({
    file: `errors/${status}.html`,
    title: `${title} · Anteroom`,
    content: renderToString(<ErrorPage status={Number(status)} />),
    script: null,
    loads: [],
  })),
];
