// /dashboard/remote-cli: start a session; earlier sessions and stored credentials.

import { useCallback, useEffect, useState } from "preact/hooks";
import {
  api,
  ApiError,
  toProblem,
  type CredentialMeta,
  type Health,
  type Problem,
  type ProviderView,
  type SessionView,
} from "../api";
import { Browsers } from "../components/browsers";
import { Credentials } from "../components/credentials";
import { Frame } from "../components/frame";
import { HealthNote } from "../components/health-note";
import { IsolationNote } from "../components/isolation-note";
import { ProblemNote } from "../components/problem-note";
import { Providers } from "../components/providers";
import { Sessions } from "../components/sessions";
import { sessionPath } from "../pages";
import { SignedOut } from "./signed-out";

/** Delay before the session page's code is preloaded. */
const PRELOAD_DELAY_MS = 1_500;

interface PageData {
  providers: ProviderView[];
  sessions: SessionView[];
  credentials: CredentialMeta[];
  health: Health | null;
}

async function load(): Promise<PageData> {
  const caller = await api.currentCaller();
  if (caller.session !== null) {
    // A viewer or helper may see only one session: redirect to its page.
    const session = await api.session(caller.session);
    window.location.replace(sessionPath(session.id, { provider: session.provider }));
    return new Promise(() => undefined);
  }
  const [providers, sessions, credentials, health] = await Promise.all([
    api.providers(),
    api.sessions(),
    api.credentials(),
    api.health(),
  ]);
  return { providers, sessions, credentials, health };
}

export function StartPage() {
  const [data, setData] = useState<PageData | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [signed_out, setSignedOut] = useState<Problem | null>(null);
  const reload = useCallback(() => {
    load().then(
      (next) => {
        setData(next);
        setProblem(null);
      },
      (error: unknown) => {
        if (error instanceof ApiError && error.status === 401) setSignedOut(error.problem);
        else setProblem(toProblem(error));
      },
    );
  }, []);
  useEffect(() => {
    reload();
    // The browser may restore this page as it was left.
    window.addEventListener("pageshow", reload);
    const preload = window.setTimeout(() => void import("./auth"), PRELOAD_DELAY_MS);
    return () => {
      window.removeEventListener("pageshow", reload);
      window.clearTimeout(preload);
    };
  }, [reload]);

  if (signed_out !== null) return <SignedOut problem={signed_out} />;
  return (
    <Frame title="Connect a tool" page="start">
      <h1>Connect a tool</h1>
      <p class="lead">
        Choose a tool and sign in. It runs in a temporary machine that is deleted afterwards. Only your sign-in is kept,
        encrypted.
      </p>
      {problem === null ? null : (
        <ProblemNote problem={problem}>
          <button type="button" onClick={reload}>
            Try again
          </button>
        </ProblemNote>
      )}
      {data === null ? (
        problem === null ? (
          <p class="muted" role="status">
            Loading…
          </p>
        ) : null
      ) : (
        <>
          <HealthNote health={data.health} />
          <IsolationNote isolation={data.health?.isolation ?? null} />
          <Providers providers={data.providers} />
          <Sessions sessions={data.sessions} />
          <Credentials credentials={data.credentials} providers={data.providers} onChange={reload} />
          <Browsers />
        </>
      )}
    </Frame>
  );
}
