// The texts of the pages for addresses that the server does not answer with a page of the application. No script contains them.

import type { Language } from ".";

interface ErrorText {
  title: string;
  text: string;
}

export type ErrorKind =
  | "not_complete"
  | "signed_out"
  | "not_yours"
  | "nothing_here"
  | "not_possible"
  | "ended"
  | "too_long"
  | "too_slow"
  | "wrong_host"
  | "too_many"
  | "busy"
  | "broken";

/** What a person can do next. */
export type ErrorAction = "connections" | "sign_in" | "again";

interface ErrorPageTexts {
  kinds: Record<ErrorKind, ErrorText>;
  actions: Record<ErrorAction, string>;
  /** For browsers without scripts, on the other pages. */
  needs_scripts: string;
}

const EN: ErrorPageTexts = {
  kinds: {
    not_complete: { title: "This address is not complete", text: "Check that the whole link was copied." },
    signed_out: {
      title: "You are not signed in",
      text: "This page needs a sign-in. If you were given a link, open it. Otherwise sign in first.",
    },
    not_yours: { title: "You may not open this", text: "It belongs to another account, or your sign-in does not include it." },
    nothing_here: { title: "There is nothing here", text: "The address may be mistyped, or what was here has been removed." },
    not_possible: { title: "This did not work", text: "This address cannot do that now." },
    ended: { title: "This has ended", text: "What was here has ended or was removed." },
    too_long: {
      title: "This address is too long",
      text: "Your browser sent more than this server accepts. Open the link that you were given again.",
    },
    too_slow: { title: "That took too long", text: "Check your connection, then try again." },
    wrong_host: {
      title: "This is not the server's address",
      text: "This server is not known by the name in the address. Open the link that you were given.",
    },
    too_many: {
      title: "Too many requests",
      text: "This address was opened too often in a short time. Wait a minute, then try again.",
    },
    busy: { title: "The server is busy", text: "It has too much to do at the moment. Wait a few seconds, then try again." },
    broken: {
      title: "Something failed",
      text: "The fault is in the server, not in what you did. Try again. If it stays, tell the person who runs this server.",
    },
  },
  actions: { connections: "Your connections", sign_in: "Sign in", again: "Try again" },
  needs_scripts: "This page needs JavaScript: it shows a live desktop.",
};

const DE: ErrorPageTexts = {
  kinds: {
    not_complete: { title: "Diese Adresse ist nicht vollständig", text: "Prüfen Sie, ob der ganze Link kopiert wurde." },
    signed_out: {
      title: "Sie sind nicht angemeldet",
      text: "Für diese Seite müssen Sie sich anmelden. Wenn Sie einen Link bekommen haben, öffnen Sie ihn. Sonst melden Sie sich zuerst an.",
    },
    not_yours: {
      title: "Sie dürfen dies nicht öffnen",
      text: "Es gehört zu einem anderen Konto, oder Ihre Anmeldung gilt nicht dafür.",
    },
    nothing_here: {
      title: "Hier gibt es nichts",
      text: "Vielleicht ist die Adresse falsch geschrieben, oder was hier war, wurde entfernt.",
    },
    not_possible: { title: "Das hat nicht funktioniert", text: "Unter dieser Adresse geht das jetzt nicht." },
    ended: { title: "Dies ist beendet", text: "Was hier war, ist beendet oder wurde entfernt." },
    too_long: {
      title: "Diese Adresse ist zu lang",
      text: "Ihr Browser hat mehr gesendet, als dieser Server annimmt. Öffnen Sie noch einmal den Link, den Sie bekommen haben.",
    },
    too_slow: { title: "Das hat zu lange gedauert", text: "Prüfen Sie Ihre Verbindung, und versuchen Sie es dann noch einmal." },
    wrong_host: {
      title: "Das ist nicht die Adresse des Servers",
      text: "Unter dem Namen in der Adresse ist dieser Server nicht bekannt. Öffnen Sie den Link, den Sie bekommen haben.",
    },
    too_many: {
      title: "Zu viele Anfragen",
      text: "Diese Adresse wurde in kurzer Zeit zu oft geöffnet. Warten Sie eine Minute, und versuchen Sie es dann noch einmal.",
    },
    busy: {
      title: "Der Server ist ausgelastet",
      text: "Er hat im Augenblick zu viel zu tun. Warten Sie einige Sekunden, und versuchen Sie es dann noch einmal.",
    },
    broken: {
      title: "Etwas ist fehlgeschlagen",
      text: "Der Fehler liegt beim Server, nicht an Ihnen. Versuchen Sie es noch einmal. Wenn er bleibt, wenden Sie sich an den Betreiber.",
    },
  },
  actions: { connections: "Ihre Verbindungen", sign_in: "Anmelden", again: "Noch einmal versuchen" },
  needs_scripts: "Diese Seite braucht JavaScript: sie zeigt einen Desktop.",
};

export const ERROR_PAGE_TEXTS: Record<Language, ErrorPageTexts> = { en: EN, de: DE };
