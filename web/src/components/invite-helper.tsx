// Invites a helper: another person who watches the session and cannot act in it.

import { useState } from "preact/hooks";
import { api, toProblem, type Problem } from "../api";
import { texts } from "../texts";
import { CopyButton } from "./copy-button";
import { OidcConfirm } from "./oidc-sign-in";
import { ProblemNote } from "./problem-note";

interface Invitation {
  name: string;
  url: string;
  expires_in_s: number;
}

export function InviteHelper({ id }: { id: string }) {
  const [name, setName] = useState("");
  const [invitation, setInvitation] = useState<Invitation | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const invite = (event: Event) => {
    event.preventDefault();
    setProblem(null);
    api.inviteHelper(id, name).then(
      ({ url, expires_in_s }) => setInvitation({ name, url, expires_in_s }),
      (error: unknown) => setProblem(toProblem(error)),
    );
  };
  return (
    <details class="invite" data-invite>
      <summary>{texts.helpers.invite}</summary>
      <p class="muted">{texts.helpers.invite_detail}</p>
      <form class="row" onSubmit={invite}>
        <label>
          {texts.helpers.name}{" "}
          <input name="helper" autocomplete="off" maxLength={60} required value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <button type="submit" class="small" data-action="invite">
          {texts.helpers.create_link}
        </button>
      </form>
      {problem === null ? null : (
        <ProblemNote problem={problem}>{problem.code === "confirmation_required" ? <OidcConfirm /> : null}</ProblemNote>
      )}
      {invitation === null ? null : (
        <p data-invitation>
          {texts.helpers.send_link(invitation.name, Math.round(invitation.expires_in_s / 60))}{" "}
          <code>{invitation.url}</code> <CopyButton text={invitation.url} name={texts.helpers.the_link} />
        </p>
      )}
    </details>
  );
}
