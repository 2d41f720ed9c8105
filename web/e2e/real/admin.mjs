// Answers an operator's questions in the pages at /admin, each from a newly opened overview: node e2e/real/admin.mjs
//
//   ANTEROOM_E2E_LINK      an operator's link
//   ANTEROOM_E2E_SESSION   a live session, whose desktop a caller has opened
//   ANTEROOM_E2E_PERSON    the link of a person, who is no operator
//
// It prints one JSON line: the answers, with the number of clicks and choices that each took, and the errors of the pages.

import { join } from "node:path";
import { launch } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const SESSION = process.env["ANTEROOM_E2E_SESSION"] ?? "";
const PERSON = process.env["ANTEROOM_E2E_PERSON"] ?? "";
const origin = new URL(LINK).origin;

const directory = await resultsDirectory("admin");
const browser = await launch();
/** @type {string[]} */
const page_errors = [];

/** A context whose pages report their errors. @param {import("playwright-core").BrowserContextOptions} options */
async function newPage(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => page_errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy/i.test(message.text())) page_errors.push(message.text());
  });
  return page;
}

/** @param {import("playwright-core").Page} page @param {string} link */
async function signIn(page, link) {
  await page.goto(link);
  await page.click("[data-action=log-in]");
  await page.waitForFunction(() => window.location.pathname !== "/login");
}

try {
  const page = await newPage();
  await signIn(page, LINK);
  let steps = 0;
  /** @type {Record<string, { steps: number, answer: unknown }>} */
  const answers = {};
  /** Asks one question. @param {string} name @param {() => Promise<unknown>} find */
  const ask = async (name, find) => {
    await page.goto(`${origin}/admin`);
    await page.waitForSelector("[data-figure=Now]");
    steps = 0;
    answers[name] = { answer: await find(), steps };
    await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
  };
  /** @param {string} selector */
  const click = async (selector) => {
    await page.click(selector);
    steps += 1;
  };
  /** @param {string} name */
  const openSection = (name) => click(`nav[aria-label=Pages] a:text-is("${name}")`);
  /** The value of an attribute of all elements. @param {string} selector @param {string} attribute */
  const all = (selector, attribute) =>
    page.$$eval(selector, (found, name) => found.map((element) => element.getAttribute(name)), attribute);

  await ask("failed_for_want_of_egress", async () => {
    await page.selectOption("main select", "hour");
    steps += 1;
    await click("[data-verdict=egress_unreachable] a");
    await page.waitForSelector("[data-count]");
    return all("tr[data-session]", "data-session");
  });
  await ask("start_p95_today", () => page.textContent("tr[data-stage=total] td:nth-child(3)"));
  await ask("who_looked", async () => {
    await openSection("Sessions");
    await click(`tr[data-session="${SESSION}"] td:first-child a`);
    await click("text=Who did what");
    await page.waitForSelector("tr[data-action]");
    return all('tr[data-action="desktop.open"]', "data-actor");
  });
  await ask("what_is_live", async () => {
    await page.waitForSelector("#live ~ * tr[data-session], section:has(#live) tr[data-session]");
    return all("section:has(#live) tr[data-session]", "data-session");
  });
  await ask("callers", async () => {
    await openSection("Callers");
    await page.waitForSelector("tr[data-caller]");
    return page.$$eval("tr[data-caller]", (rows) =>
      rows.map((row) => [row.getAttribute("data-caller"), ...["3", "6"].map((n) => row.querySelector(`td:nth-child(${n})`)?.textContent)]),
    );
  });
  await ask("refused_host", async () => {
    await openSection("Refused hosts");
    await click('[data-host="tracker.example"] summary');
    return page.textContent('[data-host="tracker.example"] pre');
  });
  await ask("audit_intact", async () => {
    await openSection("Audit");
    await click("text=Verify the trail");
    return page.getAttribute("[data-intact]", "data-intact");
  });
  await ask("host_capacity", () => page.textContent("[data-figure=Host] .figure-value"));
  await ask("why_it_failed", async () => {
    await click("[data-verdict=egress_unreachable] a");
    await click("tr[data-session] td:first-child a");
    await page.waitForSelector("p[data-verdict]");
    return page.textContent("p[data-verdict]");
  });

  // The list follows without a click: a session is stopped from its row.
  await page.goto(`${origin}/admin/sessions?state=active`);
  await page.waitForSelector(".live-mark.on");
  const before = await all("tr[data-session]", "data-session");
  await page.click(`tr[data-session="${SESSION}"] button:has-text("Stop")`);
  await page.click("dialog button:has-text('Stop')");
  await page.waitForSelector(`tr[data-session="${SESSION}"]`, { state: "detached" });
  const after = await all("tr[data-session]", "data-session");

  for (const [name, options] of /** @type {const} */ ([
    ["dark", { colorScheme: "dark" }],
    ["phone", { viewport: { width: 390, height: 844 } }],
  ])) {
    const other = await newPage({ ...options, storageState: await page.context().storageState() });
    for (const path of ["", "/sessions", `/sessions/${SESSION}`]) {
      await other.goto(`${origin}/admin${path}`);
      await other.waitForSelector("main h1");
      await other.waitForLoadState("networkidle").catch(() => undefined);
      const wide = await other.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (wide > 0) page_errors.push(`${name} ${path}: ${wide} px wider than the window`);
      await other.screenshot({ path: join(directory, `${name}${path.slice(0, 9).replaceAll("/", "-")}.png`), fullPage: true });
    }
    await other.context().close();
  }

  const person = await newPage();
  await signIn(person, PERSON);
  await person.goto(`${origin}/admin`);
  const for_person = await person.textContent("main h1");
  await page.goto(`${origin}/admin`);
  await page.click("text=Sign out");
  await page.waitForFunction(() => !window.location.pathname.startsWith("/admin"));
  await page.goto(`${origin}/admin`);
  await page.waitForSelector("main[data-page=signed-out]");
  process.stdout.write(`${JSON.stringify({ answers, before, after, for_person, page_errors })}\n`);
} finally {
  await browser.close();
}
