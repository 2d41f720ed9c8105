// Answers an operator's questions in the pages at /admin, each from a newly opened overview: node e2e/real/admin.mjs
//
//   ANTEROOM_E2E_LINK      an operator's link
//   ANTEROOM_E2E_SESSIONS  ids as JSON: `live` (its desktop was opened), `failed`, `cancelled`
//   ANTEROOM_E2E_TOKEN     the name of a token that an operator created and that was used
//   ANTEROOM_E2E_PERSON    the link of a person, who is no operator
//
// It prints one JSON line: the answers, with the number of steps that each took (a click, a choice, or a text with Enter is one), and the
// errors of the pages.

import { join } from "node:path";
import { axeViolations } from "../pages/axe.mjs";
import { launch } from "../browser.mjs";
import { resultsDirectory } from "../results.mjs";

const LINK = process.env["ANTEROOM_E2E_LINK"] ?? "";
const SESSIONS = JSON.parse(process.env["ANTEROOM_E2E_SESSIONS"] ?? "{}");
const TOKEN = process.env["ANTEROOM_E2E_TOKEN"] ?? "";
const PERSON = process.env["ANTEROOM_E2E_PERSON"] ?? "";
const origin = new URL(LINK).origin;

const directory = await resultsDirectory("admin");
const browser = await launch();
/** @type {string[]} */
const page_errors = [];

/** A page in a context of its own that reports its errors. @param {import("playwright-core").BrowserContextOptions} options */
async function newPage(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => page_errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy/i.test(message.text())) page_errors.push(message.text());
  });
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin && !request.url().startsWith("data:")) page_errors.push(`request to ${request.url()}`);
  });
  return page;
}

/** @param {import("playwright-core").Page} page @param {string} link */
async function signIn(page, link) {
  await page.goto(link);
  // Its cookie is there with the answer.
  const answered = page.waitForResponse((response) => response.request().method() === "POST" && response.ok());
  await page.click("[data-action=log-in]");
  await answered;
  await page.waitForFunction(() => window.location.pathname !== "/login");
}

/** The value of an attribute of all elements. @param {import("playwright-core").Page} page @param {string} selector @param {string} attribute */
const all = (page, selector, attribute) =>
  page.$$eval(selector, (found, name) => found.map((element) => element.getAttribute(name)), attribute);

/** Asks questions on a page. */
class Operator {
  steps = 0;
  /** @type {Record<string, { steps: number, answer: unknown }>} */
  answers = {};

  /** @param {import("playwright-core").Page} page */
  constructor(page) {
    this.page = page;
  }

  /** @param {string} name @param {() => Promise<unknown>} find */
  async ask(name, find) {
    await this.page.goto(`${origin}/admin`);
    await this.page.waitForSelector("[data-figure=Now]");
    this.steps = 0;
    this.answers[name] = { answer: await find(), steps: this.steps };
    await this.page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
    for (const violation of await axeViolations(this.page)) page_errors.push(`${name}: ${violation}`);
  }

  /** @param {string} selector */
  async click(selector) {
    this.steps += 1;
    await this.page.click(selector);
  }

  /** @param {string} selector @param {string} value */
  async choose(selector, value) {
    this.steps += 1;
    await this.page.selectOption(selector, value);
  }

  /** Opens a session by its id, as it is in a report of a person. @param {string} id */
  async find(id) {
    this.steps += 1;
    await this.page.fill("[name=find]", id);
    await this.page.press("[name=find]", "Enter");
    await this.page.waitForSelector("p[data-verdict]");
  }

  /** @param {string} name */
  openSection(name) {
    return this.click(`nav[aria-label=Pages] a:text-is("${name}")`);
  }

  /** The values of an attribute. @param {string} selector @param {string} attribute */
  async all(selector, attribute) {
    await this.page.waitForSelector(selector);
    return all(this.page, selector, attribute);
  }

  /** The texts of some cells of each row. @param {string} rows @param {number[]} cells */
  async cells(rows, cells) {
    await this.page.waitForSelector(rows);
    return this.page.$$eval(rows, (found, numbers) => found.map((row) => numbers.map((n) => row.querySelector(`td:nth-child(${n})`)?.textContent)), cells);
  }
}

/** @param {Operator} operator */
async function askAll(operator) {
  const { page } = operator;
  await operator.ask("failed_for_want_of_egress", async () => {
    await operator.choose("main select", "hour");
    await operator.click("[data-verdict=egress_unreachable] a");
    return operator.all("[data-count] ~ * tr[data-session]", "data-session");
  });
  await operator.ask("start_p95_today", () => page.textContent("tr[data-stage=total] td:nth-child(3)"));
  await operator.ask("who_looked", async () => {
    await operator.find(SESSIONS.live);
    await operator.click(".deeds summary");
    return operator.all('tr[data-action="desktop.open"]', "data-actor");
  });
  await operator.ask("which_machine_and_how_full", async () => {
    await operator.openSection("Machines");
    const machine = await operator.all(`[data-of="${SESSIONS.live}"]`, "data-machine");
    return [machine, await page.textContent("[data-gauge=Machines] .count")];
  });
  await operator.ask("why_it_failed", async () => {
    await operator.find(SESSIONS.failed);
    return [await page.textContent("p[data-verdict]"), await page.textContent("p[data-verdict] + p")];
  });
  await operator.ask("refused_hosts", async () => {
    await operator.openSection("Refused hosts");
    const hosts = await operator.all("[data-host]", "data-host");
    await operator.click('[data-host="tracker.example"] summary');
    return [hosts, await page.textContent('[data-host="tracker.example"] pre')];
  });
  await operator.ask("who_waits_how_long", async () => {
    const queued = await operator.all("tr[data-queue]", "data-session");
    return [queued, await page.textContent("[data-figure=Now] .figure-parts")];
  });
  await operator.ask("expiring_credentials", async () => {
    await operator.openSection("Connections");
    await operator.click("text=Expire within 7 days");
    await page.waitForSelector("[data-count]");
    return operator.cells("tr[data-credential]", [1, 2]);
  });
  await operator.ask("failed_deliveries", async () => {
    await operator.openSection("Webhook");
    const ids = (/** @type {string} */ panel) => operator.all(`section[aria-labelledby=${panel}] tr[data-message]`, "data-about");
    return [await ids("failing"), await ids("abandoned")];
  });
  await operator.ask("who_created_and_used_the_token", async () => {
    await operator.openSection("Callers");
    await operator.click(`tr[data-caller="${TOKEN}"] a`);
    await page.waitForSelector("tr[data-action]");
    return page.$$eval("tr[data-action]", (rows) => rows.map((row) => [row.getAttribute("data-action"), row.getAttribute("data-actor")]));
  });
  await operator.ask("who_ended_it", async () => {
    await operator.find(SESSIONS.cancelled);
    await operator.click(".deeds summary");
    return operator.all('tr[data-action="session.cancel"]', "data-actor");
  });
  await operator.ask("what_is_live", () => operator.all("section:has(#live) tr[data-session]", "data-session"));
  await operator.ask("outcomes", () => page.$$eval("[data-figure]", (found) => Object.fromEntries(found.map((figure) => [figure.getAttribute("data-figure"), [figure.querySelector(".figure-value")?.textContent, figure.querySelector(".figure-parts")?.textContent]]))));
  await operator.ask("audit_intact", async () => {
    await operator.openSection("Audit");
    await operator.click("text=Verify the trail");
    await page.waitForSelector("[data-intact]");
    return page.getAttribute("[data-intact]", "data-intact");
  });
}

/** Stops a session in another browser while this one is offline; the list has it without a reload when the network is back. @param {import("playwright-core").Page} page */
async function stopWhileOffline(page) {
  /** @type {Promise<string | null>[]} */
  const resumed = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/api/sessions/events")) resumed.push(request.headerValue("last-event-id"));
  });
  const other = await newPage({ storageState: await page.context().storageState() });
  for (const one of [page, other]) {
    await one.goto(`${origin}/admin/sessions?state=active`);
    await one.waitForSelector(".live-mark.on");
  }
  await page.evaluate(() => Object.assign(window, { is_same_document: true }));
  const before = await all(page, "tr[data-session]", "data-session");
  await page.context().setOffline(true);
  await page.waitForSelector(".live-mark.off");
  await other.click(`tr[data-session="${SESSIONS.live}"] button:has-text("Stop")`);
  await other.click("dialog button:has-text('Stop')");
  await other.waitForSelector(`tr[data-session="${SESSIONS.live}"]`, { state: "detached" });
  await page.context().setOffline(false);
  await page.waitForSelector(`tr[data-session="${SESSIONS.live}"]`, { state: "detached" });
  const after = await all(page, "tr[data-session]", "data-session");
  const is_same_document = await page.evaluate(() => /** @type {any} */ (window).is_same_document === true);
  await other.context().close();
  return { before, after, is_same_document, resumed_after: (await Promise.all(resumed)).at(-1) };
}

/** @param {import("playwright-core").Page} page */
async function lookOnOtherDevices(page) {
  for (const [name, options] of /** @type {const} */ ([
    ["dark", { colorScheme: "dark" }],
    ["phone", { viewport: { width: 390, height: 844 } }],
  ])) {
    const other = await newPage({ ...options, storageState: await page.context().storageState() });
    for (const path of ["", "/sessions", `/sessions/${SESSIONS.live}`]) {
      await other.goto(`${origin}/admin${path}`);
      await other.waitForSelector(path.length > 10 ? "p[data-verdict]" : "tr[data-session]");
      const wide = await other.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (wide > 0) page_errors.push(`${name} ${path}: ${wide} px wider than the window`);
      await other.screenshot({ path: join(directory, `${name}${path.slice(0, 9).replaceAll("/", "-")}.png`), fullPage: true });
    }
    await other.context().close();
  }
}

try {
  const page = await newPage();
  await signIn(page, LINK);
  const operator = new Operator(page);
  await askAll(operator);
  const offline = await stopWhileOffline(page);
  await lookOnOtherDevices(page);
  const person = await newPage();
  await signIn(person, PERSON);
  await person.goto(`${origin}/admin`);
  await person.waitForSelector("main a.button");
  const for_person = await person.textContent("main h1");
  await page.goto(`${origin}/admin`);
  await page.click("text=Sign out");
  await page.waitForFunction(() => !window.location.pathname.startsWith("/admin"));
  await page.goto(`${origin}/admin`);
  await page.waitForSelector("main[data-page=signed-out]");
  process.stdout.write(`${JSON.stringify({ answers: operator.answers, offline, for_person, page_errors })}\n`);
} finally {
  await browser.close();
}
