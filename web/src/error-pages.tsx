// The pages for addresses that the server does not answer with a page of the application. They are HTML without scripts, one for each
// HTTP status; programs get a problem document instead.

import { Frame } from "./components/frame";
import { START_PATH } from "./pages";

/** What a person can do next. */
type Action = { label: string; href: string } | null;

interface ErrorWords {
  title: string;
  text: string;
  action: Action;
}

const CONNECTIONS: Action = { label: "Your connections", href: START_PATH };
/** An empty address is that of the page itself. */
const AGAIN: Action = { label: "Try again", href: "" };

const NOTHING_HERE: ErrorWords = {
  title: "There is nothing here",
  text: "The address may be mistyped, or what was here has been removed.",
  action: CONNECTIONS,
};
const NOT_POSSIBLE: ErrorWords = { title: "This did not work", text: "This address cannot do that now.", action: CONNECTIONS };
const TOO_LONG: ErrorWords = {
  title: "This address is too long",
  text: "Your browser sent more than this server accepts. Open the link that you were given again.",
  action: CONNECTIONS,
};
const TOO_SLOW: ErrorWords = { title: "That took too long", text: "Check your connection, then try again.", action: AGAIN };
const BUSY: ErrorWords = {
  title: "The server is busy",
  text: "It has too much to do at the moment. Wait a few seconds, then try again.",
  action: AGAIN,
};
const BROKEN: ErrorWords = {
  title: "Something failed",
  text: "The fault is in the server, not in what you did. Try again. If it stays, tell the person who runs this server.",
  action: AGAIN,
};

/** The words for each HTTP status of the server's answers. */
export const ERROR_WORDS: Readonly<Record<number, ErrorWords>> = {
  400: { title: "This address is not complete", text: "Check that the whole link was copied.", action: CONNECTIONS },
  401: {
    title: "You are not signed in",
    text: "This page needs a sign-in. If you were given a link, open it. Otherwise sign in first.",
    action: { label: "Sign in", href: START_PATH },
  },
  403: { title: "You may not open this", text: "It belongs to another account, or your sign-in does not include it.", action: CONNECTIONS },
  404: NOTHING_HERE,
  405: NOTHING_HERE,
  406: NOT_POSSIBLE,
  408: TOO_SLOW,
  409: NOT_POSSIBLE,
  410: { title: "This has ended", text: "What was here has ended or was removed.", action: CONNECTIONS },
  413: TOO_LONG,
  414: TOO_LONG,
  415: NOT_POSSIBLE,
  421: {
    title: "This is not the server's address",
    text: "This server is not known by the name in the address. Open the link that you were given.",
    action: null,
  },
  422: NOT_POSSIBLE,
  429: {
    title: "Too many requests",
    text: "This address was opened too often in a short time. Wait a minute, then try again.",
    action: AGAIN,
  },
  431: TOO_LONG,
  500: BROKEN,
  502: BROKEN,
  503: BUSY,
  504: TOO_SLOW,
};

export function ErrorPage({ status }: { status: number }) {
  const { title, text, action } = ERROR_WORDS[status] ?? BROKEN;
  return (
    <Frame title={title} page="error" status={String(status)}>
      <h1>{title}</h1>
      <p>{text}</p>
      {action === null ? null : (
        <p>
          <a class="button primary" href={action.href}>
            {action.label}
          </a>
        </p>
      )}
    </Frame>
  );
}
