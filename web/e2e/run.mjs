// The page tests: builds the pages, then runs e2e/pages/*.test.mjs in a real browser against the fake server.
// Arguments go to node's test runner (`npm run e2e -- --test-name-pattern=replaced`).

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const built = spawnSync(process.execPath, [join(here, "../build.mjs")], { stdio: "inherit" });
if (built.status !== 0) process.exit(built.status ?? 1);
const tests = readdirSync(join(here, "pages"))
  .filter((name) => name.endsWith(".test.mjs"))
  .map((name) => join(here, "pages", name));
const ran = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=2", "--test-reporter=spec", ...process.argv.slice(2), ...tests],
  { stdio: "inherit" },
);
process.exit(ran.status ?? 1);
