// The browsers in which the user is signed in, with buttons that sign them out.

import { useCallback, useEffect, useState } from "preact/hooks";
import { api, toProblem, type BrowserView, type Problem } from "../api";
import { signOutHere } from "../oidc";
import { texts } from "../texts";
import { DateTime } from "./date-time";
import { ProblemNote } from "./problem-note";

const name = ({ description }: BrowserView) => texts.browsers.description(description);

export function Browsers() {
  const [browsers, setBrowsers] = useState<BrowserView[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  const onFailed = useCallback((error: unknown) => setProblem(toProblem(error)), []);
  const reload = useCallback(() => void api.browsers().then(setBrowsers, onFailed), [onFailed]);
  useEffect(reload, [reload]);
  const logOut = () => {
    setProblem(null);
    signOutHere().then(() => window.location.reload(), onFailed);
  };
  const signOut = (id: string) => {
    setProblem(null);
    api.signBrowserOut(id).then(reload, onFailed);
  };
  if (browsers.length === 0 && problem === null) return null;
  return (
    <>
      {problem === null ? null : <ProblemNote problem={problem} />}
      <ul class="list">
        {browsers.map((browser) => (
          <li key={browser.id} data-browser={browser.id}>
            <span class="list-main">{browser.is_current ? texts.browsers.this_one(name(browser)) : name(browser)}</span>
            {browser.is_current ? (
              <button type="button" class="small" data-action="log-out" onClick={logOut}>
                {texts.connections.sign_out}
              </button>
            ) : (
              <button type="button" class="small" data-action="sign-browser-out" onClick={() => signOut(browser.id)}>
                {texts.connections.sign_out}
                <span class="visually-hidden"> {name(browser)}</span>
              </button>
            )}
            <span class="list-text muted">
              {texts.browsers.from(browser.address)} <DateTime at={browser.signed_in_at} />
              {texts.browsers.last_used} <DateTime at={browser.last_used_at} />
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}
