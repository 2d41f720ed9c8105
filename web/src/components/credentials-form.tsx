// What the desktop's own server asks a viewer for: mostly a password. It stays in this page and goes to that server.

import { useState } from "preact/hooks";
import type { Asked, Desktop } from "../desktop";

const LABELS: Record<string, string> = { username: "User name", password: "Password", target: "Target" };

export function CredentialsForm({ desktop, asked }: { desktop: Desktop; asked: Asked }) {
  const [given, give] = useState<Record<string, string>>({});
  return (
    <div class="veil" data-connection="asked">
      <form
        class="veil-note"
        onSubmit={(event) => {
          event.preventDefault();
          desktop.answer(given);
          give({});
        }}
      >
        <p>
          <strong>The desktop asks who you are.</strong>
          {asked.refused ? <small role="alert">It did not accept what was given before.</small> : null}
        </p>
        {asked.types.map((type, index) => {
          const field = {
            name: type,
            autocomplete: "off",
            autofocus: index === 0,
            required: true,
            value: given[type] ?? "",
            onInput: (event: Event & { currentTarget: HTMLInputElement }) =>
              give({ ...given, [type]: event.currentTarget.value }),
          } as const;
          return (
            <label key={type}>
              {LABELS[type] ?? type}
              {type === "password" ? <input type="password" {...field} /> : <input type="text" {...field} />}
            </label>
          );
        })}
        <button type="submit" class="primary">
          Show the desktop
        </button>
      </form>
    </div>
  );
}
