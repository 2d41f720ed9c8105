// A real desktop for the page tests: Debian's Xtigervnc, as in the machines, with Chromium on it that shows a page with one field.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { CHROMIUM, waitUntil } from "./browser.mjs";

const GEOMETRY = "800x600";
/** The field fills the window, so that a click anywhere focuses it. */
const PAGE = `<!doctype html><title>field</title><style>body{margin:0}textarea{width:100vw;height:100vh;font:20px sans-serif;background:#cfe8cf}</style>
<textarea autofocus></textarea>`;

/**
 * Opens Chromium with one field on an X display.
 * @param {string} display
 * @returns {Promise<{ page: import("playwright-core").Page, close: () => Promise<void> }>}
 */
export async function openField(display) {
  const site = createServer((_request, response) => response.setHeader("Content-Type", "text/html; charset=utf-8").end(PAGE));
  await new Promise((done) => site.listen(0, "127.0.0.1", () => done(undefined)));
  const address = site.address();
  if (address === null || typeof address === "string") throw new Error("no address");
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    headless: false,
    env: { ...process.env, DISPLAY: display },
    args: ["--no-sandbox", "--disable-gpu", "--ozone-platform=x11", "--window-position=0,0", "--window-size=800,600", "--kiosk"],
  });
  const page = await (await browser.newContext({ viewport: null })).newPage();
  await page.goto(`http://127.0.0.1:${address.port}/`);
  return {
    page,
    close: async () => {
      await browser.close();
      site.closeAllConnections();
      await new Promise((done) => site.close(() => done(undefined)));
    },
  };
}

/**
 * Starts the desktop; `connectRfb` connects to its VNC server.
 * @returns {Promise<{ page: import("playwright-core").Page, connectRfb: () => import("node:net").Socket, close: () => Promise<void> }>}
 */
export async function startVncDesktop() {
  const directory = await mkdtemp(join(tmpdir(), "anteroom-e2e-desktop-"));
  const socket = join(directory, "rfb.sock");
  const options = ["-displayfd", "1", "-rfbunixpath", socket, "-rfbport", "-1", "-SecurityTypes", "None", "-AlwaysShared"];
  const geometry = ["-nolisten", "tcp", "-ac", "-noreset", "-depth", "24", "-SendPrimary=0", "-geometry", GEOMETRY];
  const server = spawn("/usr/bin/Xtigervnc", [...options, ...geometry], { stdio: ["ignore", "pipe", "ignore"] });
  let display = "";
  server.stdout?.on("data", (bytes) => {
    display += String(bytes);
  });
  await waitUntil("the display", () => display.includes("\n"));
  const field = await openField(`:${display.trim()}`);
  return {
    page: field.page,
    connectRfb: () => connect(socket),
    close: async () => {
      await field.close();
      const exited = new Promise((done) => server.once("exit", done));
      server.kill();
      await exited;
      await rm(directory, { recursive: true, force: true });
    },
  };
}
