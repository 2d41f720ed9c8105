// What the HTML files contain before a script runs. `build.mjs` runs this in Node.

import type { VNode } from "preact";
import { renderToString } from "preact-render-to-string";
import { AdminLoadingPage } from "./admin/loading-page";
import { LoadingPage, SessionLoadingPage } from "./components/loading-page";
import { ERROR_STATUSES, ErrorPage } from "./error-pages";
import { StartPage } from "./pages/start";
import { LANGUAGES, loadLanguage, texts, type Language } from "./texts";
import { ERROR_PAGE_TEXTS } from "./texts/error-pages";

/** One for each page: a module that pages of one build share would be a file of its own, and each file costs a part of a round trip. */
export type Build = "start" | "session" | "login" | "sign-in-callback" | "desktop" | "admin";

export interface HtmlFile {
  /** Its name below dist/. */
  file: string;
  language: Language;
  title: string;
  content: string;
  /** The build of its scripts; `null`: it needs none. */
  build: Build | null;
  /** Shown in browsers without scripts. */
  needs_scripts: string;
  /** Sources of modules that the script loads at once. */
  loads: readonly string[];
  /** Sources of its style sheets, in addition to that of every page. */
  styles?: readonly string[];
}

/** The modules with the texts of a language that the scripts do not contain. */
const TEXTS: Record<Language, readonly string[]> = { en: [], de: ["src/texts/de.ts"] };

/** The files in the current language. */
function filesIn(language: Language): HtmlFile[] {
  const { kinds, needs_scripts } = ERROR_PAGE_TEXTS[language];
  const name = (path: string) => (language === "en" ? `${path}.html` : `${path}.${language}.html`);
  const page = (path: string, title: string, content: VNode, build: Build | null, loads: readonly string[]): HtmlFile => ({
    file: name(path),
    language,
    title: `${title} · Anteroom`,
    content: renderToString(content),
    build,
    needs_scripts,
    loads: build === null ? [] : [...loads, ...TEXTS[language]],
  });
  const app = (path: string, title: string, build: Build, source: string, content: VNode) =>
    page(path, title, content, build, [`src/pages/${source}.tsx`]);
  const desktop = (
    <main class="desktop-page" data-page="desktop">
      <h1 class="visually-hidden">{texts.desktop_title}</h1>
    </main>
  );
  return [
    app("index", texts.connections.title, "start", "start", <StartPage />),
    app("session", texts.session, "session", "auth", <SessionLoadingPage />),
    app("login", texts.open_anteroom, "login", "login", <LoadingPage title={texts.open_anteroom} page="login" />),
    app("sign-in-callback", texts.signing_in, "sign-in-callback", "sign-in-callback", <LoadingPage title={texts.signing_in} page="sign-in-callback" />),
    page("desktop", texts.desktop, desktop, "desktop", ["node_modules/@novnc/novnc/core/rfb.js"]),
    ...Object.entries(ERROR_STATUSES).map(([status, kind]) =>
      page(`errors/${status}`, kinds[kind].title, <ErrorPage status={status} kind={kind} language={language} />, null, []),
    ),
  ];
}

/** The operators' pages are in English. */
const ADMIN: HtmlFile = {
  file: "admin.html",
  language: "en",
  title: "Operators · Anteroom",
  content: renderToString(<AdminLoadingPage />),
  build: "admin",
  needs_scripts: "This page needs JavaScript.",
  loads: [],
  styles: ["src/styles/admin-pages.css"],
};

/** All files, in all languages. */
export async function htmlFiles(): Promise<HtmlFile[]> {
  const files = [ADMIN];
  for (const language of Object.keys(LANGUAGES) as Language[]) {
    await loadLanguage(language);
    files.push(...filesIn(language));
  }
  return files;
}
