// The pages for addresses that the server does not answer with a page of the application. They are HTML without scripts, one for each
// HTTP status; programs get a problem document instead.

import { Frame } from "./components/frame";
import { START_PATH } from "./pages";
import type { Language } from "./texts";
import { ERROR_PAGE_TEXTS, type ErrorAction, type ErrorKind } from "./texts/error-pages";

/** The kind of page for each HTTP status of the server's errors. */
export const ERROR_STATUSES: Readonly<Record<number, ErrorKind>> = {
  400: "not_complete",
  401: "signed_out",
  403: "not_yours",
  404: "nothing_here",
  405: "nothing_here",
  406: "not_possible",
  408: "too_slow",
  409: "not_possible",
  410: "ended",
  413: "too_long",
  414: "too_long",
  415: "not_possible",
  421: "wrong_host",
  422: "not_possible",
  429: "too_many",
  431: "too_long",
  500: "broken",
  502: "broken",
  503: "busy",
  504: "too_slow",
};

/** What a person can do about each kind; absent: go to the connections. */
const ACTIONS: Partial<Record<ErrorKind, ErrorAction | null>> = {
  signed_out: "sign_in",
  too_slow: "again",
  too_many: "again",
  busy: "again",
  broken: "again",
  wrong_host: null,
};

/** Where the button of an error page leads; an empty address is that of the page itself. */
const ADDRESSES: Record<ErrorAction, string> = { connections: START_PATH, sign_in: START_PATH, again: "" };

interface ErrorPageProps {
  status: string;
  kind: ErrorKind;
  language: Language;
}

export function ErrorPage({ status, kind, language }: ErrorPageProps) {
  const { kinds, actions } = ERROR_PAGE_TEXTS[language];
  const { title, text } = kinds[kind];
  const action = ACTIONS[kind] === undefined ? "connections" : ACTIONS[kind];
  return (
    <Frame title={title} page="error" status={status}>
      <h1>{title}</h1>
      <p>{text}</p>
      {action === null ? null : (
        <p>
          <a class="button primary" href={ADDRESSES[action]}>
            {actions[action]}
          </a>
        </p>
      )}
    </Frame>
  );
}
