// Checks a page with axe-core: WCAG 2.2 A and AA, and axe's best practices.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const SOURCE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/**
 * Returns one sentence for each violation on the page.
 * @param {import("playwright-core").Page} page
 * @returns {Promise<string[]>}
 */
export async function axeViolations(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(SOURCE);
  return page.evaluate(async (tags) => {
    const { axe } = /** @type {{ axe: import("axe-core") }} */ (/** @type {unknown} */ (window));
    const { violations } = await axe.run(document, {
      runOnly: { type: "tag", values: tags },
      resultTypes: ["violations"],
      // axe counts it as experimental; people who control their browser by speech need it (WCAG 2.5.3).
      rules: { "label-content-name-mismatch": { enabled: true } },
    });
    return violations.flatMap(({ id, help, nodes }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${help}: ${html.slice(0, 160)} ${(failureSummary ?? "").replace(/\s+/g, " ").slice(0, 200)}`),
    );
  }, TAGS);
}
