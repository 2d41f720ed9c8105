// The failed checks of the server's health. The isolation of machines has its own note for those who receive it.

import type { Health } from "../api";

export function HealthNote({ health }: { health: Health | null }) {
  if (health === null || health.status === "ok") return null;
  const separate = health.isolation === null ? null : "isolation";
  const failed = health.checks.filter((check) => check.status !== "ok" && check.name !== separate);
  if (failed.length === 0) return null;
  return (
    <section class={health.status === "down" ? "note bad" : "note warn"} aria-label="Health of the server" lang="en">
      <p>
        <strong>
          {health.status === "down" ? "The server cannot start machines at the moment." : "The server works, with restrictions:"}
        </strong>
      </p>
      <ul>
        {failed.map((check) => (
          <li key={check.name}>
            <code>{check.name}</code> {check.detail}
          </li>
        ))}
      </ul>
    </section>
  );
}
