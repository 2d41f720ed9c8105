// A date and time in the language of the page and the time zone of the browser.

import { locale } from "../language";

export function DateTime({ at }: { at: string }) {
  const date = new Date(at);
  const valid = !Number.isNaN(date.getTime());
  return (
    <time class="date-time" dateTime={at}>
      {valid ? date.toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" }) : at}
    </time>
  );
}
