// The frame of the operators' pages, and which page an address shows.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { api, ApiError, toProblem, type CurrentCaller, type Problem } from "../api";
import { AudienceContext } from "../audience";
import { Logo } from "../components/frame";
import { ProblemNote } from "../components/problem-note";
import { START_PATH } from "../pages";
import { SignedOut } from "../pages/signed-out";
import { AuditPage } from "./pages/audit";
import { CallersPage } from "./pages/callers";
import { ConnectionsPage } from "./pages/connections";
import { HostsPage } from "./pages/hosts";
import { MachinesPage } from "./pages/machines";
import { OverviewPage } from "./pages/overview";
import { SessionPage } from "./pages/session";
import { SessionsPage } from "./pages/sessions";
import { WebhookPage } from "./pages/webhook";
import { FindSession } from "./find-session";
import { AdminLoadingPage } from "./loading-page";
import { followLinks, hrefOf, useAddress, type Address } from "./router";

interface Section {
  path: string;
  title: string;
  /** Whether auditors may open it; the API decides again. */
  for_auditors?: true;
  page: (address: Address, caller: CurrentCaller) => ComponentChildren;
}

const SECTIONS: Section[] = [
  { path: "", title: "Overview", page: ({ query }) => <OverviewPage query={query} /> },
  { path: "sessions", title: "Sessions", page: ({ query }) => <SessionsPage query={query} /> },
  { path: "connections", title: "Connections", page: ({ query }) => <ConnectionsPage query={query} /> },
  { path: "machines", title: "Machines", page: () => <MachinesPage /> },
  { path: "hosts", title: "Refused hosts", page: ({ query }) => <HostsPage query={query} /> },
  { path: "callers", title: "Callers", for_auditors: true, page: (_, caller) => <CallersPage is_operator={caller.role === "operator"} /> },
  { path: "audit", title: "Audit", for_auditors: true, page: ({ query }) => <AuditPage query={query} /> },
  { path: "webhook", title: "Webhook", page: () => <WebhookPage /> },
];

export function AdminApp() {
  const [caller, setCaller] = useState<CurrentCaller | null>(null);
  const [problem, setProblem] = useState<{ problem: Problem; is_signed_out: boolean } | null>(null);
  useEffect(() => {
    api.currentCaller().then(setCaller, (error: unknown) =>
      setProblem({ problem: toProblem(error), is_signed_out: error instanceof ApiError && error.status === 401 }),
    );
    return followLinks();
  }, []);
  if (problem?.is_signed_out === true) return <SignedOut problem={problem.problem} />;
  if (problem !== null) {
    return (
      <AdminFrame title="Anteroom" caller={null} sections={[]} section={null}>
        <h1>Operators</h1>
        <ProblemNote problem={problem.problem} />
      </AdminFrame>
    );
  }
  if (caller === null) return <AdminLoadingPage />;
  if (caller.role !== "operator" && caller.role !== "auditor") return <NotForYou caller={caller} />;
  return <SignedIn caller={caller} />;
}

function SignedIn({ caller }: { caller: CurrentCaller }) {
  const address = useAddress();
  const sections = SECTIONS.filter((section) => caller.role === "operator" || section.for_auditors === true);
  const [first = "", second] = address.path.split("/");
  const section = sections.find(({ path }) => path === first) ?? null;
  // An auditor has no overview.
  const shown = section ?? (first === "" ? (sections.find(({ path }) => path === "audit") ?? null) : null);
  const frame = (title: string, content: ComponentChildren) => (
    <AdminFrame title={title} caller={caller} sections={sections} section={shown}>
      {content}
    </AdminFrame>
  );
  if (shown === null) {
    return frame(
      "Nothing here",
      <>
        <h1>There is nothing here</h1>
        <p>The address may be mistyped, or your role does not include this page.</p>
      </>,
    );
  }
  if (shown.path === "sessions" && second !== undefined) return frame("Session", <SessionPage key={second} id={second} />);
  return frame(shown.title, shown.page(address, caller));
}

function NotForYou({ caller }: { caller: CurrentCaller }) {
  return (
    <AdminFrame title="For operators" caller={caller} sections={[]} section={null}>
      <h1>These pages are for operators</h1>
      <p>
        You are signed in as {caller.name}, with the role {caller.role}. Ask the person who runs this server if you need them.
      </p>
      <p>
        <a class="button primary" href={START_PATH}>
          Your connections
        </a>
      </p>
    </AdminFrame>
  );
}

interface FrameProps {
  title: string;
  caller: CurrentCaller | null;
  sections: Section[];
  section: Section | null;
  children: ComponentChildren;
}

function AdminFrame({ title, caller, sections, section, children }: FrameProps) {
  useEffect(() => {
    document.title = `${title} · Anteroom`;
  }, [title]);
  return (
    <AudienceContext.Provider value="operator">
      <div class="admin">
        <a class="skip-link" href="#main">
          Skip to the content
        </a>
        <header class="admin-header">
          <a class="brand" href={hrefOf("")}>
            <Logo />
            Anteroom
          </a>
          <nav aria-label="Pages">
            {sections.map(({ path, title: name }) => (
              <a key={path} href={hrefOf(path)} aria-current={path === section?.path ? "page" : undefined}>
                {name}
              </a>
            ))}
          </nav>
          {caller?.role === "operator" ? <FindSession /> : null}
          {caller && <Account caller={caller} />}
        </header>
        <main id="main" tabIndex={-1} data-page={section?.path === "" ? "overview" : (section?.path ?? "none")}>
          {children}
        </main>
      </div>
    </AudienceContext.Provider>
  );
}

function Account({ caller }: { caller: CurrentCaller }) {
  const [problem, setProblem] = useState<string | null>(null);
  const signOut = () => {
    api.logOut().then(
      () => window.location.assign("/"),
      (error: unknown) => setProblem(toProblem(error).sentence),
    );
  };
  return (
    <div class="account">
      <span title={`${caller.name}, ${caller.role}`}>
        {caller.name} {caller.name === caller.role ? null : <span class="muted">{caller.role}</span>}
      </span>
      <a href={START_PATH}>Your connections</a>
      <button type="button" class="small" onClick={signOut}>
        Sign out
      </button>
      {problem && <span role="alert">{problem}</span>}
    </div>
  );
}
