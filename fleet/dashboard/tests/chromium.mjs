// A real browser against a real server, for the tests beside this file.
//
//   BASE_URL      address of the server (required)
//   EXPECT_DATA=1 the fleet is populated: every page must show rows
//   REAL=1        the server is a real one: what was done is looked up there too
//   SCREENSHOTS   a folder for one picture a page and scheme
//   CHROMIUM      the browser's program (default /usr/bin/chromium)
//   WAIT_MS       how long a page may take to show what is expected (default 15000)
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before } from "node:test";
import { launch } from "./launch.mjs";

export const base = process.env.BASE_URL;
assert.ok(base, "set BASE_URL to the server's address, such as http://127.0.0.1:8480");
export const expectData = process.env.EXPECT_DATA === "1";
export const real = process.env.REAL === "1";
export const waitMs = Number(process.env.WAIT_MS ?? 15_000);
const pictures = process.env.SCREENSHOTS;
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const standards = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

let browser;
before(async () => {
  browser = await launch();
  if (pictures) mkdirSync(pictures, { recursive: true });
});
after(async () => {
  await browser?.close();
});

export async function first(path) {
  const response = await fetch(`${base}/api/v1${path}`);
  assert.equal(response.status, 200, `GET ${path}`);
  const body = await response.json();
  return (Array.isArray(body) ? body : body.items)[0];
}

/** A page that remembers every error that reached its console. */
export async function open(scheme, path, width = 1440) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 900 }, reducedMotion: "reduce" });
  const page = await context.newPage();
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(`${message.text()} (${message.location().url})`));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("response", (response) => response.status() >= 400 && errors.push(`${response.status()} ${response.url()}`));
  await page.goto(base + path, { waitUntil: "domcontentloaded" });
  return { context, page, errors };
}

export async function settled(page) {
  await page.locator("h1").waitFor({ timeout: waitMs });
  await page.waitForFunction(() => document.querySelector('[role="status"][aria-label="Loading"]') === null, undefined, { timeout: waitMs });
}

export async function violations(page) {
  await page.evaluate(axeSource);
  const result = await page.evaluate((values) => globalThis.axe.run(document, { runOnly: { type: "tag", values } }), standards);
  return result.violations.map((found) => `${found.id}: ${found.nodes.map((node) => `${node.target.join(" ")} ${node.failureSummary ?? ""}`).join("\n    ")}`);
}

export async function picture(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

export async function fits(page, path) {
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(overflow <= 0, `${path} is ${overflow} px wider than the window`);
}
