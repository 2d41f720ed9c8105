// How machines are isolated from the host; only operators receive it.

import type { Isolation } from "../api";

export function IsolationNote({ isolation }: { isolation: Isolation | null }) {
  if (isolation === null) return null;
  if (isolation.level === "strong") {
    return (
      <p class="muted" data-isolation={isolation.level}>
        Isolation of machines: {isolation.detail}.
      </p>
    );
  }
  return (
    <section class="note warn" aria-label="Isolation of machines" data-isolation={isolation.level}>
      <p>
        <strong>Isolation of machines:</strong> {isolation.detail}.
      </p>
      {isolation.layers_off.length === 0 ? null : (
        <ul>
          {isolation.layers_off.map((layer) => (
            <li key={layer.name}>
              {layer.name}: {layer.why}. To switch it on: {layer.remedy}
            </li>
          ))}
        </ul>
      )}
      <p>
        Run <code>anteroom doctor</code> on the host for the causes.
      </p>
    </section>
  );
}
