// Loads and shows a page. `build.mjs` builds this once for each of them.

import { render, type ComponentType } from "preact";
import { toProblem } from "./api";
import { Frame } from "./components/frame";
import { ProblemNote } from "./components/problem-note";
import { keepFocus } from "./keep-focus";
import { loadPageLanguage } from "./language";
import { followNewLinks } from "./login-token";
import { useStore } from "./store";
import { language } from "./texts";

/** The page of this build. */
declare const PAGE: "start" | "session" | "login" | "sign-in-callback";

/** Conditions on a constant: the bundler leaves out the other pages. */
async function loadPage() {
  if (PAGE === "login") return (await import("./pages/login")).LoginPage;
  if (PAGE === "sign-in-callback") return (await import("./pages/sign-in-callback")).SignInCallbackPage;
  if (PAGE === "session") return (await import("./pages/auth")).AuthPage;
  return (await import("./pages/start")).StartPage;
}

/** Renders the page again when its language changes. */
function App({ Page }: { Page: ComponentType }) {
  useStore(language);
  return <Page />;
}

if (PAGE === "login" || PAGE === "session") followNewLinks();

const root = document.getElementById("app");
if (root !== null) {
  keepFocus(root);
  Promise.all([loadPage(), loadPageLanguage()]).then(
    ([Page]) => render(<App Page={Page} />, root),
    (error: unknown) =>
      render(
        <Frame title="Anteroom" page="fault">
          <h1>Anteroom</h1>
          <ProblemNote problem={toProblem(error)} />
        </Frame>,
        root,
      ),
  );
}
