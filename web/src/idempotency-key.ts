/** A new random key. `crypto.randomUUID` exists only in secure contexts, not on plain http. */
export function idempotencyKey(): string {
  const bytes = window.crypto.getRandomValues(new Uint8Array(16));
  return `page-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
