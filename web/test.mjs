// Bundles test/*.test.ts for the test runner of Node 20, which does not run TypeScript, and runs them.

import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = await mkdtemp(join(tmpdir(), "anteroom-web-test-"));
try {
  const tests = (await readdir(join(here, "test"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    entryPoints: tests.map((name) => join(here, "test", name)),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    logLevel: "warning",
  });
  const files = tests.map((name) => join(out, name.replace(/\.ts$/, ".mjs")));
  process.exitCode = await new Promise((done) => {
    const run = spawn(process.execPath, ["--test", ...process.argv.slice(2), ...files], { stdio: "inherit" });
    run.on("exit", (code) => done(code ?? 1));
  });
} finally {
  await rm(out, { recursive: true, force: true });
}
