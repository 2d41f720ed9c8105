// Bundles src/ into dist/: two pages and their hashed assets. `--watch` rebuilds on change.
//
//   dist/index.html     the HTML of all pages except the desktop
//   dist/desktop.html   only the desktop, served at /api/auth/session/{id}/novnc
//   dist/assets/        scripts, styles, icon: named by the hash of their content, so they can be cached without a time limit
//
// Each file is replaced atomically, and obsolete files are removed last, so that a server that serves dist/, a cargo build that embeds
// it and another build at the same time never see a partial dist/.
//
// The pages are served under a strict Content-Security-Policy, so the HTML has no inline script and no inline style.

import { build, context } from "esbuild";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

/** @type {Record<string, { file: string, title: string, body: string }>} */
const pages = {
  "src/app.tsx": { file: "index.html", title: "Anteroom", body: '<div id="app"></div>' },
  "src/desktop-page.tsx": { file: "desktop.html", title: "Desktop · Anteroom", body: '<div id="app"></div>' },
};

/**
 * @param {{ title: string, body: string }} page
 * @param {{ script: string, style: string | undefined, icon: string }} assets paths below dist/
 */
function html(page, assets) {
  const style = assets.style ? `\n  <link rel="stylesheet" href="/${assets.style}">` : "";
  return `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>${page.title}</title>
  <meta name="viewport" content="width=device-width, initial-scale=1, interactive-widget=resizes-content">
  <meta name="color-scheme" content="light dark">
  <meta name="referrer" content="no-referrer">
  <link rel="icon" type="image/svg+xml" href="/${assets.icon}">${style}
  <script type="module" src="/${assets.script}"></script>
</head>
<body>
  ${page.body}
  <noscript>This page needs JavaScript: it shows a live desktop.</noscript>
</body>
</html>
`;
}

/** Replaces a file atomically; an unchanged file is not written. @param {string} path @param {string | Uint8Array} content */
async function writeAtomically(path, content) {
  const bytes = Buffer.from(content);
  const present = await readFile(path).catch(() => null);
  if (present?.equals(bytes)) return;
  await mkdir(dirname(path), { recursive: true });
  const temporary = join(dirname(path), `.tmp-${process.pid}`);
  await writeFile(temporary, bytes);
  await rename(temporary, path);
}

/** Writes the assets, then the pages that refer to them, then removes the files of earlier builds. */
const writePages = {
  name: "pages",
  /** @param {import("esbuild").PluginBuild} build */
  setup(build) {
    build.onEnd(async (result) => {
      if (result.errors.length > 0 || !result.metafile) return;
      // The hash that scripts/steps.sh keeps of the sources is not valid any more.
      await rm(join(dist, ".source-hash"), { force: true });
      const written = new Set(Object.values(pages).map(({ file }) => file));
      for (const { path, contents } of result.outputFiles ?? []) {
        written.add(relative(dist, path));
        await writeAtomically(path, contents);
      }
      const outputs = Object.entries(result.metafile.outputs).map(
        ([path, output]) => /** @type {const} */ ([path.replace(/^dist\//, ""), output]),
      );
      const icon = outputs.find(([path]) => path.endsWith(".svg"))?.[0];
      if (!icon) throw new Error("the build has no icon");
      for (const [entry, page] of Object.entries(pages)) {
        const main = outputs.find(([, output]) => output.entryPoint === entry);
        if (!main) throw new Error(`the build has no output for ${entry}`);
        const style = main[1].cssBundle?.replace(/^dist\//, "");
        await writeAtomically(join(dist, page.file), html(page, { script: main[0], style, icon }));
      }
      for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        // Temporary files belong to another build that runs now.
        const keep = written.has(relative(dist, path)) || entry.name.startsWith(".tmp-");
        if (entry.isFile() && !keep) await rm(path, { force: true });
      }
    });
  },
};

/** @type {import("esbuild").BuildOptions} */
const options = {
  absWorkingDir: here,
  entryPoints: [...Object.keys(pages), "src/icon.svg"],
  bundle: true,
  splitting: true,
  format: "esm",
  // noVNC awaits at the top level of a module.
  target: ["es2022", "chrome108", "firefox115", "safari16"],
  supported: { "top-level-await": true },
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  sourcemap: false,
  legalComments: "external",
  loader: { ".svg": "copy" },
  outdir: "dist",
  entryNames: "assets/[name]-[hash]",
  chunkNames: "assets/[name]-[hash]",
  assetNames: "assets/[name]-[hash]",
  metafile: true,
  write: false,
  plugins: [writePages],
  logLevel: "warning",
};

await mkdir(dist, { recursive: true });
if (process.argv.includes("--watch")) {
  await (await context(options)).watch();
  console.log("watching src/");
} else {
  const result = await build(options);
  const bytes = Object.values(result.metafile?.outputs ?? {}).reduce((sum, output) => sum + output.bytes, 0);
  console.log(`web/dist: ${Object.keys(result.metafile?.outputs ?? {}).length} assets, ${Math.round(bytes / 1024)} KiB`);
}
