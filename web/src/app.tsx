// Selects the page by path. Each page is a separate chunk, so that the start page does not load the desktop's code.

import { render, type ComponentType } from "preact";
import { toProblem } from "./api";
import { Frame } from "./components/frame";
import { ProblemNote } from "./components/problem-note";
import { loadPageLanguage } from "./language";
import { useStore } from "./store";
import { language } from "./texts";

async function loadPage() {
  switch (window.location.pathname.replace(/\/+$/, "")) {
    case "/login":
      return (await import("./pages/login")).LoginPage;
    case "/sign-in/callback":
      return (await import("./pages/sign-in-callback")).SignInCallbackPage;
    case "/dashboard/remote-cli/auth":
      return (await import("./pages/auth")).AuthPage;
    default:
      return (await import("./pages/start")).StartPage;
  }
}

/** Renders the page again when its language changes. */
function App({ Page }: { Page: ComponentType }) {
  useStore(language);
  return <Page />;
}

const root = document.getElementById("app");
if (root !== null) {
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
