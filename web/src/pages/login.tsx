// /login#login_token=…: the operator's link. Exchanges the pass for a cookie and goes on to the dashboard.

import { useEffect, useState } from "preact/hooks";
import { api, asProblem, type ProblemBody } from "../api";
import { Frame } from "../components/frame";
import { ProblemNote } from "../components/problem-note";
import { enter, takePass } from "../login-token";

const DASHBOARD = "/dashboard/remote-cli";

export function Enter() {
  const [problem, setProblem] = useState<ProblemBody | null>(null);
  const [already, setAlready] = useState(false);
  useEffect(() => {
    const pass = takePass();
    const settled = (refused: ProblemBody) => {
      setProblem(refused);
      // A link opened twice in one browser: the first time has signed it in.
      void api.me().then(
        () => setAlready(true),
        () => undefined,
      );
    };
    if (pass === null) {
      settled({
        code: "no_pass",
        sentence: "This link has no pass in it.",
        remedy: "Open the whole link, with everything after the # sign.",
        close_code: 4401,
      });
      return;
    }
    void enter(pass).then(
      () => window.location.replace(DASHBOARD),
      (thrown: unknown) => settled(asProblem(thrown)),
    );
  }, []);
  if (problem === null) {
    return (
      <Frame title="Signing in" page="enter">
        <p role="status">Signing this browser in…</p>
      </Frame>
    );
  }
  return (
    <Frame title="This link does not work" page="enter">
      <h1>This link does not work</h1>
      <ProblemNote problem={problem} />
      {already ? (
        <p>
          This browser is signed in already: <a href={DASHBOARD}>go on to the dashboard</a>.
        </p>
      ) : (
        <p>
          A link works once. <code>anteroom login-link</code> on the server prints a new one, and so does <code>anteroom serve</code> when it
          starts.
        </p>
      )}
    </Frame>
  );
}
