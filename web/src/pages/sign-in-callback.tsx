// /sign-in/callback: receives the answer of the OpenID provider, and continues where the sign-in began.

import { useEffect, useState } from "preact/hooks";
import { api, toProblem, type Problem } from "../api";
import { Frame } from "../components/frame";
import { LoadingPage } from "../components/loading-page";
import { OidcSignIn } from "../components/oidc-sign-in";
import { ProblemNote } from "../components/problem-note";
import { extractAnswer, returnPath } from "../oidc";
import { START_PATH } from "../pages";
import { texts } from "../texts";

const NO_ANSWER: Problem = {
  code: "no_answer",
  sentence: "This address contains no answer of the identity provider.",
  remedy: "Sign in again. A reload does not repeat the answer: it works once.",
  get for_person() {
    return texts.sign_in_again;
  },
  close_code: 4401,
};

export function SignInCallbackPage() {
  const [answer] = useState(extractAnswer);
  const [problem, setProblem] = useState<Problem | null>(answer === null ? NO_ANSWER : null);
  useEffect(() => {
    if (answer === null) return;
    api.finishOidc(answer).then(
      () => window.location.replace(returnPath()),
      (error: unknown) => setProblem(toProblem(error)),
    );
  }, [answer]);
  if (problem === null) {
    return (
      <LoadingPage title={texts.signing_in} page="sign-in-callback">
        {texts.one_moment}
      </LoadingPage>
    );
  }
  return (
    <Frame title={texts.not_signed_in} page="sign-in-callback" status="failed">
      <h1>{texts.sign_in_failed}</h1>
      <ProblemNote problem={problem} />
      <OidcSignIn />
      <p>
        <a href={START_PATH}>{texts.to_start_page}</a>
      </p>
    </Frame>
  );
}
