// Bundles src/ into dist/: the HTML of the pages and their hashed assets. `--watch` rebuilds on change.
//
//   dist/*.html         one for each page, with its first content and the scripts that it needs (src/first-content.tsx)
//   dist/*.de.html      the same in German
//   dist/errors/*.html  one for each HTTP status of an error, and its German form
//   dist/assets/        scripts, styles, icon: named by the hash of their content, so they can be cached without a time limit
//   …br, …gz            a file's content, compressed; only if that is smaller
//
// Each file is replaced atomically, and obsolete files are removed last, so that a server that serves dist/, a cargo build that embeds
// it and another build at the same time never see a partial dist/.
//
// The pages are served under a strict Content-Security-Policy, so the HTML has no inline script and no inline style.

import { build, context } from "esbuild";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

/** @typedef {import("./src/first-content").HtmlFile} HtmlFile */
/** @typedef {import("esbuild").Metafile["outputs"][string]} Output */

/** Pages for which no script is needed have no element to render into: nothing replaces their content.
 * @param {HtmlFile} file @param {{ script: string | null, preloads: string[], styles: string[], icon: string }} assets paths below dist/ */
function html(file, assets) {
  const preloads = assets.preloads.map((path) => `\n  <link rel="modulepreload" href="/${path}">`).join("");
  const styles = assets.styles.map((path) => `<link rel="stylesheet" href="/${path}">`).join("\n  ");
  const script = assets.script === null ? "" : `\n  <script type="module" src="/${assets.script}"></script>`;
  const body =
    assets.script === null
      ? file.content
      : `<div id="app">${file.content}</div>\n  <noscript>${file.needs_scripts}</noscript>`;
  return `<!doctype html>
<html lang="${file.language}">
<head>
  <meta charset="utf-8">
  <title>${file.title}</title>
  <meta name="viewport" content="width=device-width, initial-scale=1, interactive-widget=resizes-content">
  <meta name="color-scheme" content="light dark">
  <meta name="referrer" content="no-referrer">
  <link rel="icon" type="image/svg+xml" href="/${assets.icon}">
  ${styles}${preloads}${script}
</head>
<body>
  ${body}
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

/** Compressed forms of a file, by the ending of their names. @type {Record<string, (bytes: Uint8Array) => Promise<Buffer>>} */
const ENCODINGS = {
  ".br": (bytes) =>
    promisify(brotliCompress)(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
  ".gz": (bytes) => promisify(gzip)(bytes, { level: constants.Z_BEST_COMPRESSION }),
};

/** The files of a build. */
class Files {
  /** @type {Set<string>} */
  #names = new Set();

  /** Writes a file and its compressed forms. @param {string} name below dist/ @param {Uint8Array} bytes */
  async write(name, bytes) {
    for (const [ending, compress] of Object.entries(ENCODINGS)) {
      const compressed = await compress(bytes);
      if (compressed.length < bytes.length) await this.#write(name + ending, compressed);
    }
    await this.#write(name, bytes);
  }

  /** @param {string} name @param {Uint8Array} bytes */
  async #write(name, bytes) {
    this.#names.add(name);
    await writeAtomically(join(dist, name), bytes);
  }

  /** Removes the files of earlier builds. */
  async removeOthers() {
    for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      // Temporary files belong to another build that runs now.
      const keep = this.#names.has(relative(dist, path)) || entry.name.startsWith(".tmp-");
      if (entry.isFile() && !keep) await rm(path, { force: true });
    }
  }
}

/** The outputs that a module needs before it can run, itself first. @param {Map<string, Output>} outputs @param {string} path */
function closure(outputs, path, found = new Set([path])) {
  for (const { path: imported, kind } of outputs.get(path)?.imports ?? []) {
    const name = imported.replace(/^dist\//, "");
    if (kind !== "import-statement" || found.has(name)) continue;
    found.add(name);
    closure(outputs, name, found);
  }
  return found;
}

/** Imports the style sheet of xterm.js as minified text: only the script that uses it contains it. */
const stylesAsText = {
  name: "styles-as-text",
  /** @param {import("esbuild").PluginBuild} build */
  setup(build) {
    build.onLoad({ filter: /xterm\.css$/ }, async ({ path }) => {
      const { code } = await build.esbuild.transform(await readFile(path, "utf8"), { loader: "css", minify: true, legalComments: "none" });
      return { contents: code, loader: "text" };
    });
  },
};

/** Renders the first content of the pages in Node. @returns {Promise<readonly HtmlFile[]>} */
async function htmlFiles() {
  const rendered = await build({
    absWorkingDir: here,
    entryPoints: ["src/first-content.tsx"],
    bundle: true,
    platform: "node",
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
    write: false,
    plugins: [stylesAsText],
    logLevel: "warning",
  });
  const text = rendered.outputFiles[0]?.text ?? "";
  return (await import(`data:text/javascript;base64,${Buffer.from(text).toString("base64")}`)).htmlFiles();
}

/** Writes the assets, then the pages that refer to them, then removes the files of earlier builds.
 * @param {Map<string, import("esbuild").BuildResult>} results of each build */
async function writePages(results) {
  // The hash that scripts/steps.sh keeps of the sources is not valid any more.
  await rm(join(dist, ".source-hash"), { force: true });
  const files = new Files();
  for (const { path, contents } of [...results.values()].flatMap((result) => result.outputFiles ?? [])) {
    await files.write(relative(dist, path), contents);
  }
  /** The outputs of each build, by their paths below dist/. */
  const outputs = new Map([...results].map(([name, { metafile }]) => {
    const paths = Object.entries(metafile?.outputs ?? {});
    return [name, new Map(paths.map(([path, output]) => [path.replace(/^dist\//, ""), output]))];
  }));
  /** @param {string} build @param {string} ending @param {string} [source] */
  const find = (build, ending, source) => {
    const of_build = [...(outputs.get(build) ?? [])];
    const found = of_build.find(([path, output]) => path.endsWith(ending) && (source === undefined || output.entryPoint === source));
    if (!found) throw new Error(`the build ${build} has no ${ending} of ${source ?? "any source"}`);
    return found[0];
  };
  const icon = find("styles", ".svg");
  for (const file of await htmlFiles()) {
    const { build } = file;
    const script = build === null ? null : find(build, ".js", BUILDS[build]);
    const loads = build === null ? [] : file.loads.map((source) => find(build, ".js", source));
    const roots = [...(script === null ? [] : [script]), ...loads];
    const of_build = outputs.get(build ?? "") ?? new Map();
    const preloads = [...new Set(roots.flatMap((root) => [...closure(of_build, root)]))].filter((path) => path !== script);
    const styles = ["src/styles/app.css", ...(file.styles ?? [])].map((source) => find("styles", ".css", source));
    await files.write(file.file, Buffer.from(html(file, { script, preloads, styles, icon })));
  }
  await files.removeOthers();
}

/** The entry point of each page, and the styles and the icon of all. A module that two entry points of one build use is a file of its own;
 * many small files compress badly and wait for one another.
 * @type {Record<import("./src/first-content").Build, string>} */
const BUILDS = {
  start: "src/app.tsx",
  session: "src/app.tsx",
  login: "src/app.tsx",
  "sign-in-callback": "src/app.tsx",
  desktop: "src/desktop-page.tsx",
  admin: "src/admin.tsx",
};
const STYLES = ["src/styles/app.css", "src/styles/admin-pages.css", "src/icon.svg"];

/** The newest result of each build. @type {Map<string, import("esbuild").BuildResult>} */
const results = new Map();
let written = Promise.resolve();

/** Writes the pages after each build, once all have a result. @param {string} name @returns {import("esbuild").Plugin} */
const pagesAfter = (name) => ({
  name: "pages",
  setup(build) {
    build.onEnd((result) => {
      if (result.errors.length > 0) return undefined;
      results.set(name, result);
      if (results.size === builds.length) written = written.then(() => writePages(results));
      return written;
    });
  },
});

/** @type {import("esbuild").BuildOptions} */
const common = {
  absWorkingDir: here,
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
  logLevel: "warning",
};
/** @param {string} name @param {string[]} entryPoints */
const buildOf = (name, entryPoints) => ({
  ...common,
  entryPoints,
  define: { PAGE: JSON.stringify(name) },
  plugins: [pagesAfter(name), stylesAsText],
});
const builds = [...Object.entries(BUILDS).map(([name, script]) => buildOf(name, [script])), buildOf("styles", STYLES)];

await mkdir(dist, { recursive: true });
if (process.argv.includes("--watch")) {
  for (const options of builds) await (await context(options)).watch();
  console.log("watching src/");
} else {
  const built = await Promise.all(builds.map((options) => build(options)));
  const outputs = built.flatMap((result) => Object.values(result.metafile?.outputs ?? {}));
  const bytes = outputs.reduce((sum, output) => sum + output.bytes, 0);
  console.log(`web/dist: ${outputs.length} assets, ${Math.round(bytes / 1024)} KiB`);
}
