// The forms that create and rotate API tokens.

import { useEffect, useRef, useState } from "preact/hooks";
import { toProblem, type Problem } from "../api";
import { adminApi, type ApiToken, type CreatedToken } from "./api";
import { ActionProblem } from "./parts";

const ROLES = {
  backend: "Backend: starts sessions and owns their credentials",
  auditor: "Auditor: reads audit, tokens and metrics",
  operator: "Operator: may do everything",
} as const;
type Role = keyof typeof ROLES;

const LIFETIMES: readonly [days: number | null, label: string][] = [
  [null, "Until it is revoked"],
  [1, "1 day"],
  [30, "30 days"],
  [90, "90 days"],
  [365, "1 year"],
];

const OVERLAPS: readonly [seconds: number, label: string][] = [
  [3_600, "1 hour"],
  [86_400, "1 day"],
  [7 * 86_400, "7 days"],
  [0, "Not at all: it ends now"],
];

interface Request {
  is_busy: boolean;
  problem: Problem | null;
  send: (request: Promise<CreatedToken>) => void;
}

function useRequest(onCreated: (created: CreatedToken) => void): Request {
  const [is_busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const send = (request: Promise<CreatedToken>) => {
    setBusy(true);
    setProblem(null);
    request.then(onCreated, (error: unknown) => setProblem(toProblem(error))).finally(() => setBusy(false));
  };
  return { is_busy, problem, send };
}

export function CreateToken({ onCreated }: { onCreated: (created: CreatedToken) => void }) {
  const [is_open, setOpen] = useState(false);
  const { is_busy, problem, send } = useRequest((created) => {
    setOpen(false);
    onCreated(created);
  });
  const submit = (form: HTMLFormElement) => {
    const data = new FormData(form);
    const days = Number(data.get("days"));
    send(
      adminApi.createToken({
        name: String(data.get("name") ?? "").trim(),
        role: String(data.get("role")) as Role,
        scopes: null,
        expires_in_s: days > 0 ? days * 86_400 : null,
      }),
    );
  };
  return (
    <details class="panel" open={is_open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>New token</summary>
      {!is_open ? null : (
        <form
          class="fields"
          aria-label="New token"
          onSubmit={(event) => {
            event.preventDefault();
            submit(event.currentTarget);
          }}
        >
          <label>
            Name
            <input name="name" required maxLength={100} autocomplete="off" />
          </label>
          <label>
            Role
            <select name="role">
              {Object.entries(ROLES).map(([role, label]) => (
                <option key={role} value={role}>
                  {label}
                </option>
              ))}
            </select>
          </label>
          <label>
            Ends
            <select name="days">
              {LIFETIMES.map(([days, label]) => (
                <option key={label} value={days ?? 0}>
                  {label}
                </option>
              ))}
            </select>
          </label>
          <button type="submit" class="primary" disabled={is_busy} aria-busy={is_busy}>
            Create
          </button>
          {problem && <ActionProblem problem={problem} />}
        </form>
      )}
    </details>
  );
}

interface RotateProps {
  token: ApiToken;
  onCreated: (created: CreatedToken) => void;
  onCancel: () => void;
}

export function RotateToken({ token, onCreated, onCancel }: RotateProps) {
  const { is_busy, problem, send } = useRequest(onCreated);
  const overlap = useRef<HTMLSelectElement>(null);
  useEffect(() => overlap.current?.focus(), []);
  return (
    <section class="panel" aria-labelledby="rotate">
      <h2 id="rotate">Rotate {token.name}</h2>
      <p class="muted">A new token with the same name and scopes takes its place. Links and cookies of the old one end with it.</p>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          send(adminApi.rotateToken(token.id, Number(new FormData(event.currentTarget).get("overlap_s"))));
        }}
      >
        <label>
          The old one still works for
          <select name="overlap_s" ref={overlap}>
            {OVERLAPS.map(([seconds, label]) => (
              <option key={seconds} value={seconds}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <button type="submit" class="primary" disabled={is_busy} aria-busy={is_busy}>
          Rotate
        </button>
        <button type="button" onClick={onCancel}>
          Keep
        </button>
        {problem && <ActionProblem problem={problem} />}
      </form>
    </section>
  );
}
