// Numbers with their units, in the words and the plural of a language.

type Unit = "second" | "minute" | "hour" | "day" | "byte";

/** Returns the function that formats a number: `1 second`, `4 Sekunden`. */
export function unitFormat(locale: string): (count: number, unit: Unit) => string {
  return (count, unit) => new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(count);
}

/** Returns the function that formats a short duration: `0.6 s`, `0,6 s`. */
export function secondsFormat(locale: string): (duration_ms: number) => string {
  const format = new Intl.NumberFormat(locale, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  return (duration_ms) => `${format.format(duration_ms / 1_000)} s`;
}
