// /login#login_token=…: the operator's link. Exchanges the login token for a cookie and continues on the start page.

import { useEffect, useState } from "preact/hooks";
import { api, toProblem, type Problem } from "../api";
import { Frame } from "../components/frame";
import { ProblemNote } from "../components/problem-note";
import { extractLoginToken } from "../login-token";
import { START_PATH } from "../pages";

const NO_LOGIN_TOKEN: Problem = {
  code: "no_login_token",
  sentence: "This link is not complete.",
  remedy: "Open the whole link, with everything after the # sign.",
  close_code: 4401,
};

export function LoginPage() {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [signed_in, setSignedIn] = useState(false);
  useEffect(() => {
    const login_token = extractLoginToken();
    const onFailed = (login_problem: Problem) => {
      setProblem(login_problem);
      // If the link was opened twice in one browser, the first time has signed it in.
      void api.currentCaller().then(
        () => setSignedIn(true),
        () => undefined,
      );
    };
    if (login_token === null) {
      onFailed(NO_LOGIN_TOKEN);
      return;
    }
    void api.login(login_token).then(
      () => window.location.replace(START_PATH),
      (error: unknown) => onFailed(toProblem(error)),
    );
  }, []);
  if (problem === null) {
    return (
      <Frame title="Signing in" page="login">
        <p role="status">Signing in…</p>
      </Frame>
    );
  }
  return (
    <Frame title="This link does not work" page="login">
      <h1>This link does not work</h1>
      <ProblemNote problem={problem} />
      {signed_in ? (
        <p>
          This browser is already signed in: <a href={START_PATH}>continue to the start page</a>.
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
