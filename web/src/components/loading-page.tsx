// A page before its data has arrived. The HTML of the page has the same content, so that nothing moves when the scripts run.

import type { ComponentChildren } from "preact";
import { texts } from "../texts";
import { Frame } from "./frame";

interface LoadingPageProps {
  /** The title of the document, and the heading. */
  title: string;
  page: string;
  /** Whether the page that follows has the columns of a session. */
  columns?: boolean;
  children?: ComponentChildren;
}

export function LoadingPage({ title, page, columns = false, children }: LoadingPageProps) {
  const content = (
    <>
      <h1>{title}</h1>
      <p class="muted" role="status">
        {children ?? texts.loading}
      </p>
    </>
  );
  return (
    <Frame title={title} page={page} status="loading" wide={columns}>
      {columns ? (
        <div class="session">
          <div class="panel-column">{content}</div>
        </div>
      ) : (
        content
      )}
    </Frame>
  );
}
