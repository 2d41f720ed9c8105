// Which page: by path. Each page is its own chunk, so that choosing a tool does not load the desktop's code.

import { render } from "preact";
import "./styles/base.css";
import "./styles/components.css";
import { ProblemNote } from "./components/problem-note";
import { Frame } from "./components/frame";
import { asProblem } from "./api";

async function page() {
  switch (window.location.pathname.replace(/\/+$/, "")) {
    case "/login":
      return (await import("./pages/login")).Enter;
    case "/dashboard/remote-cli/auth":
      return (await import("./pages/auth")).Auth;
    default:
      return (await import("./pages/start")).Pick;
  }
}

const root = document.getElementById("app");
if (root !== null) {
  page().then(
    (Page) => render(<Page />, root),
    (fault: unknown) =>
      render(
        <Frame title="Anteroom" page="fault">
          <ProblemNote problem={asProblem(fault)} />
        </Frame>,
        root,
      ),
  );
}
