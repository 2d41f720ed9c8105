// Asks for the credentials that the desktop's server requires, mostly a password. They are sent to that server and kept only in
// this page.

import { useState } from "preact/hooks";
import type { CredentialRequest, Desktop } from "../desktop";
import { texts } from "../texts";

export function CredentialsForm({ desktop, request }: { desktop: Desktop; request: CredentialRequest }) {
  const [values, setValues] = useState<Record<string, string>>({});
  const labels: Record<string, string> = texts.remote.credentials;
  return (
    <div class="overlay" data-connection="credentials">
      <form
        class="overlay-note"
        onSubmit={(event) => {
          event.preventDefault();
          desktop.sendCredentials(values);
          setValues({});
        }}
      >
        <p>
          <strong>{texts.remote.requires_sign_in}</strong>
          {request.rejected ? <small role="alert">{texts.remote.rejected_sign_in}</small> : null}
        </p>
        {request.types.map((type, index) => {
          const field = {
            name: type,
            autocomplete: "off",
            autofocus: index === 0,
            required: true,
            value: values[type] ?? "",
            onInput: (event: Event & { currentTarget: HTMLInputElement }) =>
              setValues({ ...values, [type]: event.currentTarget.value }),
          } as const;
          return (
            <label key={type}>
              {labels[type] ?? type}
              {type === "password" ? <input type="password" {...field} /> : <input type="text" {...field} />}
            </label>
          );
        })}
        <button type="submit" class="primary">
          {texts.remote.show}
        </button>
      </form>
    </div>
  );
}
