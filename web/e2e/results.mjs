// Where a run in a browser leaves its screenshots: a directory of its own, so that runs at the same time do not meet.
//
//   ANTEROOM_E2E_RESULTS  another directory, for who starts the same thing twice

import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ALL = join(dirname(fileURLToPath(import.meta.url)), "../test-results");

/** The directory of the run `name`; made when it is not there. @param {string} name @returns {Promise<string>} */
export async function resultsOf(name) {
  const place = process.env["ANTEROOM_E2E_RESULTS"] ?? join(ALL, name);
  await mkdir(place, { recursive: true });
  return place;
}
