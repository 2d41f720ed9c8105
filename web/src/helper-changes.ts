// What a change of a session's helpers means to the person in the session.

import type { HelperView } from "./api";
import { texts } from "./texts";

/** Returns one sentence for each helper who came or left; an empty text if none did. */
export function helperChanges(before: readonly HelperView[], after: readonly HelperView[]): string {
  const watching = (helpers: readonly HelperView[]) => new Map(helpers.filter((one) => one.status === "connected").map((one) => [one.id, one.name]));
  const [former, current] = [watching(before), watching(after)];
  const came = [...current].filter(([id]) => !former.has(id)).map(([, name]) => texts.helpers.came(name));
  const left = [...former].filter(([id]) => !current.has(id)).map(([, name]) => texts.helpers.left(name));
  return [...came, ...left].join(" ");
}
