// Numbers with their units, in the words and the plural of a language.

type Unit = "second" | "minute" | "hour" | "day" | "byte";

/** Returns the function that formats a number: `1 second`, `4 Sekunden`. */
export function unitFormat(locale: string): (count: number, unit: Unit) => string {
  return (count, unit) => new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(count);
}
