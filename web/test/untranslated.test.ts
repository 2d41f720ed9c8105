// The texts of the person's pages are in the catalogue: the sources are searched for others, and for texts that are read before their
// language is known.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import test from "node:test";
import type TypeScript from "typescript";

const web = process.cwd();
const ts: typeof TypeScript = createRequire(join(web, "package.json"))("typescript");

/** Shown to operators and auditors only, whose pages are in English. */
const FOR_OPERATORS = ["components/health-note.tsx", "components/isolation-note.tsx", "components/operator-hint.tsx", "components/timeline.tsx", "labels.ts"];
const FUNCTIONS_FOR_OPERATORS = new Set(["AuditorPage"]);

/** Attributes whose value a person reads. */
const READ = new Set(["aria-label", "aria-description", "title", "alt", "placeholder", "label", "name", "prefix", "question", "detail", "confirm", "cancel"]);

/** Names of the product, of a document and of keys, and parts of no language. */
const NO_LANGUAGE = /^(Anteroom|docs\/providers\.md|Esc|Tab|Ctrl|Alt|Enter|[^\p{L}]*|·.*)$/u;

/** Properties that only operators and programs read. */
const OF_OPERATORS = new Set(["sentence", "remedy", "detail", "code", "cause", "fontFamily"]);

const sources = readdirSync(join(web, "src"), { recursive: true, encoding: "utf8" }).filter(
  (path) => /\.tsx?$/.test(path) && !/^(admin|texts)\/|\.d\.ts$|^(api-types|admin|first-content)\./.test(path) && !FOR_OPERATORS.includes(path),
);

/** Calls `visit` for each node of each source. */
function visitAll(visit: (node: TypeScript.Node, report: (text: string) => void) => void): string[] {
  const found: string[] = [];
  for (const path of sources) {
    const file = ts.createSourceFile(path, readFileSync(join(web, "src", path), "utf8"), ts.ScriptTarget.Latest, true);
    const walk = (node: TypeScript.Node): void => {
      if (ts.isFunctionDeclaration(node) && FUNCTIONS_FOR_OPERATORS.has(node.name?.text ?? "")) return;
      visit(node, (text) => found.push(`src/${path}:${file.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${text}`));
      node.forEachChild(walk);
    };
    walk(file);
  }
  return found;
}

const isText = (text: string) => !NO_LANGUAGE.test(text.trim());
/** Two words, or a word with a capital letter: identifiers and class names of one word are not texts. */
const isSentence = (text: string) => isText(text) && /\p{L}{2,} \p{L}+/u.test(text) || isText(text) && /^\p{Lu}\p{Ll}{2,}[.…?!]?$/u.test(text.trim());

function textOf(node: TypeScript.Node): string | null {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return node.text;
  if (ts.isTemplateExpression(node)) return node.head.text + node.templateSpans.map((span) => `0${span.literal.text}`).join("");
  return null;
}

/** Whether a text is read by programs or operators. */
function isTechnical(node: TypeScript.Node): boolean {
  for (let at = node.parent; at !== undefined; at = at.parent) {
    if (ts.isImportDeclaration(at) || ts.isLiteralTypeNode(at) || ts.isThrowStatement(at)) return true;
    if (ts.isNewExpression(at) && /Error$/.test(at.expression.getText())) return true;
    if (ts.isJsxAttribute(at)) return !READ.has(at.name.getText());
    if ((ts.isPropertyAssignment(at) || ts.isVariableDeclaration(at)) && OF_OPERATORS.has(at.name.getText())) return true;
    if (ts.isCallExpression(at) && /querySelector|matchMedia|addEventListener|setAttribute|console|getContext|headers\.get/.test(at.expression.getText())) return true;
    if ((ts.isCaseClause(at) && at.expression === node) || (ts.isBinaryExpression(at) && /\.(key|code)$/.test(at.left.getText()))) return true;
    if (ts.isFunctionLike(at)) return false;
  }
  return false;
}

test("no source of a person's page has a text outside the catalogue", () => {
  assert.ok(sources.length > 50, `${sources.length} sources`);
  const found = visitAll((node, report) => {
    if (ts.isJsxText(node) && isText(node.text)) report(node.text.trim());
    const text = textOf(node);
    if (text === null || isTechnical(node)) return;
    const is_attribute = ts.isJsxAttribute(node.parent) && READ.has(node.parent.name.getText());
    if (is_attribute ? isText(text) && /\p{Lu}|\s/u.test(text) : isSentence(text)) report(text);
  });
  assert.deepEqual(found, []);
});

test("no source reads a text when it is loaded: its language may change later", () => {
  const found = visitAll((node, report) => {
    if (!ts.isPropertyAccessExpression(node) || node.expression.getText() !== "texts") return;
    for (let at = node.parent; at !== undefined; at = at.parent) if (ts.isFunctionLike(at)) return;
    report(node.getText());
  });
  assert.deepEqual(found, []);
});
