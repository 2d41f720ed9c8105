// The search of the header: a session by its id, or those with a text.

import { hrefOf, navigate } from "./router";

/** People's pages show it as the number of a report, without its prefix. */
const SESSION_ID = /^(?:ses_)?([0-9a-hjkmnp-tv-z]{26})$/;

export function FindSession() {
  return (
    <form
      class="find-session"
      role="search"
      aria-label="Sessions"
      onSubmit={(event) => {
        event.preventDefault();
        const text = String(new FormData(event.currentTarget).get("find") ?? "").trim();
        if (text === "") return;
        event.currentTarget.reset();
        const id = SESSION_ID.exec(text)?.[1];
        navigate(id === undefined ? hrefOf("sessions", { text }) : hrefOf(`sessions/ses_${id}`));
      }}
    >
      <input type="search" name="find" aria-label="Find a session by id, person, caller or tool" placeholder="Find a session" autocomplete="off" />
    </form>
  );
}
