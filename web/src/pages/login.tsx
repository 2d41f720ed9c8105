// /login#login_token=…: the operator's link. After a click, exchanges the login token for a cookie and continues on the start page.

import { useEffect, useState } from "preact/hooks";
import { api, isUnreachable, toProblem, type Problem } from "../api";
import { Frame } from "../components/frame";
import { LoadingPage } from "../components/loading-page";
import { LoginConfirmation } from "../components/login-confirmation";
import { OperatorHint } from "../components/operator-hint";
import { PasteLink } from "../components/paste-link";
import { ProblemNote } from "../components/problem-note";
import { extractLoginToken } from "../login-token";
import { START_PATH } from "../pages";
import { texts } from "../texts";

const NO_LOGIN_TOKEN: Problem = {
  code: "no_login_token",
  sentence: "This link is not complete.",
  remedy: "Open the whole link, with everything after the # sign.",
  get for_person() {
    return texts.link_not_complete;
  },
  close_code: 4401,
};

export function LoginPage() {
  const [login_token] = useState(extractLoginToken);
  const [problem, setProblem] = useState<Problem | null>(login_token === null ? NO_LOGIN_TOKEN : null);
  const [confirmed, setConfirmed] = useState(false);
  const [unreached, setUnreached] = useState<Problem | null>(null);
  if (problem !== null) return <LoginProblem problem={problem} />;
  if (confirmed || login_token === null) {
    return (
      <LoadingPage title={texts.signing_in} page="login">
        {texts.one_moment}
      </LoadingPage>
    );
  }
  const logIn = () => {
    setConfirmed(true);
    api.login(login_token).then(
      () => window.location.replace(START_PATH),
      (error: unknown) => {
        if (!isUnreachable(error)) return setProblem(toProblem(error));
        setUnreached(toProblem(error));
        setConfirmed(false);
      },
    );
  };
  return <LoginConfirmation onConfirm={logIn} problem={unreached} />;
}

function LoginProblem({ problem }: { problem: Problem }) {
  const [signed_in, setSignedIn] = useState(false);
  useEffect(() => {
    // If the link was opened twice in one browser, the first time has signed it in.
    void api.currentCaller().then(
      () => setSignedIn(true),
      () => undefined,
    );
  }, []);
  return (
    <Frame title={texts.link_does_not_work} page="login">
      <h1>{texts.link_does_not_work}</h1>
      <ProblemNote problem={problem} />
      {problem.code === NO_LOGIN_TOKEN.code && !signed_in ? <PasteLink /> : null}
      {signed_in ? (
        <p>
          {texts.already_signed_in} <a href={START_PATH}>{texts.to_start_page}</a>
        </p>
      ) : (
        <OperatorHint />
      )}
    </Frame>
  );
}
