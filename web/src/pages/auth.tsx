// /dashboard/remote-cli/auth?session=…&provider=…[#login_token=…]: one session, live.
//
//   login token (if any) ─▶ a click ─▶ cookie ─▶ the state's stream ─▶ the tab of the method's preferred lane
//
// The page shows the session's state; it has no timer that changes it.

import { useEffect, useState } from "preact/hooks";
import { api, isUnreachable, toProblem, type Problem } from "../api";
import { Frame } from "../components/frame";
import { LoadingPage } from "../components/loading-page";
import { LoginConfirmation } from "../components/login-confirmation";
import { extractLoginToken } from "../login-token";
import { isViewOnly } from "../pages";
import { texts } from "../texts";
import { SessionPage, ToStartPage } from "./session";

type LoginState = { step: "confirm"; problem: Problem | null } | { step: "log_in" } | { step: "finished"; problem: Problem | null };

/**
 * Exchanges the link's login token after a click. A rejected token does not matter if the browser has a cookie from an earlier login,
 * which needs no click.
 */
function useLogin(session: string): { state: LoginState; confirm: () => void } {
  const [login_token] = useState(extractLoginToken);
  const [state, setState] = useState<LoginState>(login_token === null ? { step: "finished", problem: null } : { step: "log_in" });
  useEffect(() => {
    if (login_token === null) return;
    api.session(session).then(
      () => setState({ step: "finished", problem: null }),
      () => setState({ step: "confirm", problem: null }),
    );
  }, [login_token, session]);
  const confirm = () => {
    setState({ step: "log_in" });
    api.login(login_token ?? "").then(
      () => setState({ step: "finished", problem: null }),
      (error: unknown) => setState({ step: isUnreachable(error) ? "confirm" : "finished", problem: toProblem(error) }),
    );
  };
  return { state, confirm };
}

export function AuthPage() {
  const id = new URLSearchParams(window.location.search).get("session") ?? "";
  const login = useLogin(id);
  if (id === "") {
    return (
      <Frame title={texts.address_not_complete} page="auth">
        <h1>{texts.address_not_complete}</h1>
        <p>{texts.check_whole_link}</p>
        <ToStartPage />
      </Frame>
    );
  }
  if (login.state.step === "confirm") return <LoginConfirmation onConfirm={login.confirm} problem={login.state.problem} />;
  if (login.state.step === "log_in") {
    return (
      <LoadingPage title={texts.signing_in} page="auth">
        {texts.one_moment}
      </LoadingPage>
    );
  }
  return <SessionPage id={id} login_problem={login.state.problem} view_only={isViewOnly()} />;
}
