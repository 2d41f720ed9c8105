// How machines are isolated from the host, folded; only operators receive it.

import type { Isolation } from "../api";

const SUMMARIES: Record<Isolation["level"], string> = {
  strong: "Machines are isolated by hardware virtualization.",
  partial: "Machines run with weaker isolation than this host could give. How to fix",
  emulated: "Machines run without hardware virtualization: slower, and weaker isolation. How to fix",
};

export function IsolationNote({ isolation }: { isolation: Isolation | null }) {
  if (isolation === null) return null;
  const is_strong = isolation.level === "strong";
  return (
    <details class={is_strong ? "muted" : "note warn"} lang="en" data-isolation={isolation.level}>
      <summary>{SUMMARIES[isolation.level]}</summary>
      <p>Isolation: {isolation.detail}.</p>
      {isolation.layers_off.length === 0 ? null : (
        <ul>
          {isolation.layers_off.map((layer) => (
            <li key={layer.name}>
              {layer.name}: {layer.why}. To switch it on: {layer.remedy}
            </li>
          ))}
        </ul>
      )}
      {is_strong ? null : (
        <p>
          Run <code>anteroom doctor</code> on the host for the causes; <code>docs/kvm.md</code> describes how to get KVM.
        </p>
      )}
    </details>
  );
}
