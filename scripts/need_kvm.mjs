// Usage: anteroom doctor --json | node scripts/need_kvm.mjs STEP…
// Prints the result of these steps of KVM (device, guest, Linux), and fails at the first one that is not "ok".
import { readFileSync } from "node:fs";

const checks = JSON.parse(readFileSync(0, "utf8"));
for (const step of process.argv.slice(2)) {
  const name = `KVM ${step}`;
  const check = checks.find((check) => check.name === name) ?? checks.find((check) => check.name === "KVM");
  if (check?.status !== "ok") {
    const why = check?.detail ?? `\`anteroom doctor\` has no check called "${name}"`;
    console.error(`error: KVM does not boot Linux here: ${why}\n       docs/kvm.md describes hosts where it does.`);
    process.exit(1);
  }
  console.log(check.detail);
}
