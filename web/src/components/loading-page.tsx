// A page before its data has arrived. The HTML of the page has the same content, so that nothing moves when the scripts run.

import type { ComponentChildren } from "preact";
import { texts } from "../texts";
import { Frame } from "./frame";

interface LoadingPageProps {
  /** The title of the document, and the heading. */
  title: string;
  page: string;
  children?: ComponentChildren;
}

/** The heading of a page of a session before its data has arrived. */
export function SessionLoading({ children }: { children?: ComponentChildren }) {
  return (
    <div class="session">
      <div class="session-head">
        <LoadingContent title={texts.session}>{children}</LoadingContent>
      </div>
    </div>
  );
}

function LoadingContent({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <>
      <h1>{title}</h1>
      <p class="muted" role="status">
        {children ?? texts.loading}
      </p>
    </>
  );
}

export function LoadingPage({ title, page, children }: LoadingPageProps) {
  return (
    <Frame title={title} page={page} status="loading">
      <LoadingContent title={title}>{children}</LoadingContent>
    </Frame>
  );
}

/** The page of a session before its data has arrived. */
export function SessionLoadingPage() {
  return (
    <Frame title={texts.session} page="auth" status="loading" wide>
      <SessionLoading />
    </Frame>
  );
}
