// The directory for the screenshots of a run: one for each run name, so that parallel runs do not overwrite each other's.
//
//   ANTEROOM_E2E_RESULTS  another directory, for parallel runs with the same name

import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ALL_RESULTS = join(dirname(fileURLToPath(import.meta.url)), "../test-results");

/** Creates the directory of the run `name`. @param {string} name @returns {Promise<string>} */
export async function resultsDirectory(name) {
  const directory = process.env["ANTEROOM_E2E_RESULTS"] ?? join(ALL_RESULTS, name);
  await mkdir(directory, { recursive: true });
  return directory;
}
