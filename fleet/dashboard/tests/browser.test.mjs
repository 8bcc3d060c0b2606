// The real browser against a real server: every page in light and dark.
//
//   BASE_URL      address of the server (required)
//   EXPECT_DATA=1 the fleet is populated: every page must show rows
//   SCREENSHOTS   a folder for one picture a page and scheme
//   CHROMIUM      the browser's program (default /usr/bin/chromium)
//   WAIT_MS       how long a page may take to show what is expected (default 15000)
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const base = process.env.BASE_URL;
assert.ok(base, "set BASE_URL to the server's address, such as http://127.0.0.1:8480");
const expectData = process.env.EXPECT_DATA === "1";
const pictures = process.env.SCREENSHOTS;
const waitMs = Number(process.env.WAIT_MS ?? 15_000);
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const standards = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  if (pictures) mkdirSync(pictures, { recursive: true });
});
after(async () => {
  await browser?.close();
});

/** Ids for the pages of one thing come from the API itself; a fleet without one has no such page. */
async function pages() {
  const rollout = await first("/rollouts?limit=1");
  const device = await first("/devices?limit=1");
  const run = await first("/runs?limit=1");
  const bundle = await first("/bundles?limit=1");
  const of = (path, thing, name, heading) => (thing === undefined ? [] : [{ path: `${path}/${encodeURIComponent(thing.id)}`, name, heading, rows: true }]);
  return [
    { path: "/", name: "overview", heading: "Overview", rows: true },
    { path: "/rollouts", name: "rollouts", heading: "Rollouts", rows: rollout !== undefined },
    ...of("/rollouts", rollout, "rollout", rollout?.model),
    { path: "/devices", name: "devices", heading: "Devices", rows: device !== undefined },
    ...of("/devices", device, "device", device?.name),
    { path: "/models", name: "models", heading: "Models", rows: true },
    { path: "/drift", name: "drift", heading: "Drift", rows: (await first("/incidents?limit=1")) !== undefined },
    { path: "/rollouts/new", name: "new-rollout", heading: "New rollout", rows: bundle !== undefined },
    { path: "/audit", name: "audit", heading: "Audit log", rows: true },
    { path: "/settings", name: "settings", heading: "Settings", rows: true },
    ...(bundle === undefined ? [] : [{ path: `/models/${bundle.sha256}`, name: "model", heading: bundle.model, rows: false }]),
    { path: "/runs", name: "runs", heading: "Retraining", rows: run !== undefined },
    ...of("/runs", run, "run", run?.model),
  ];
}

async function first(path) {
  const response = await fetch(`${base}/api/v1${path}`);
  assert.equal(response.status, 200, `GET ${path}`);
  const body = await response.json();
  return (Array.isArray(body) ? body : body.items)[0];
}

/** A page that remembers every error that reached its console. */
async function open(scheme, path, width = 1440) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 900 }, reducedMotion: "reduce" });
  const page = await context.newPage();
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(`${message.text()} (${message.location().url})`));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("response", (response) => response.status() >= 400 && errors.push(`${response.status()} ${response.url()}`));
  await page.goto(base + path, { waitUntil: "domcontentloaded" });
  return { context, page, errors };
}

async function settled(page) {
  await page.locator("h1").waitFor({ timeout: waitMs });
  await page.waitForFunction(() => document.querySelector('[role="status"][aria-label="Loading"]') === null, undefined, { timeout: waitMs });
}

async function violations(page) {
  await page.evaluate(axeSource);
  const result = await page.evaluate((values) => globalThis.axe.run(document, { runOnly: { type: "tag", values } }), standards);
  return result.violations.map((found) => `${found.id}: ${found.nodes.map((node) => `${node.target.join(" ")} ${node.failureSummary ?? ""}`).join("\n    ")}`);
}

for (const scheme of ["light", "dark"]) {
  test(`every page is whole and accessible in ${scheme}`, async (t) => {
    if (expectData) {
      for (const path of ["/rollouts?limit=1", "/devices?limit=1", "/runs?limit=1", "/incidents?limit=1", "/bundles?limit=1"]) {
        assert.ok((await first(path)) !== undefined, `EXPECT_DATA=1, and GET ${path} answers an empty list`);
      }
    }
    for (const { path, name, heading, rows } of await pages()) {
      await t.test(name, async () => {
        const { context, page, errors } = await open(scheme, path);
        try {
          await settled(page);
          assert.ok((await page.locator("h1").innerText()).includes(heading), `h1 of ${path} names ${heading}`);
          assert.equal(await page.locator("html").getAttribute("data-mantine-color-scheme"), scheme);
          assert.equal(await page.locator('main [role="alert"]').count(), 0, `${path} shows a problem`);
          await page.locator('[data-live="live"]').waitFor({ timeout: waitMs });
          if (expectData && rows) await page.locator("[data-row]").first().waitFor({ timeout: waitMs });
          if (expectData && name === "drift") await drawn(page);
          if (expectData && name === "device") await page.locator(".chart canvas").first().waitFor({ timeout: waitMs });
          if (pictures) await page.screenshot({ path: join(pictures, `${name}-${scheme}.png`), fullPage: true });
          assert.deepEqual(await violations(page), [], `axe on ${path}`);
          await fits(page, path);
          assert.deepEqual(errors, [], `console of ${path}`);
        } finally {
          await context.close();
        }
      });
    }
  });
}

async function fits(page, path) {
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(overflow <= 0, `${path} is ${overflow} px wider than the window`);
}

test("a freeze stands on every page until it is thawed, by keyboard, in a narrow window too", async () => {
  const reason = `browser test ${Date.now()}`;
  const { context, page, errors } = await open("light", "/", 390);
  try {
    await settled(page);
    await page.locator('[data-live="live"]').waitFor({ timeout: waitMs });
    const frozen = page.getByRole("region", { name: "Freeze" }).locator(".frozen").filter({ hasText: reason });
    assert.equal(await frozen.count(), 0);
    const answer = await fetch(`${base}/api/v1/freezes`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ reason }) });
    assert.equal(answer.status, 200, "POST /freezes");
    await frozen.waitFor({ timeout: waitMs });
    assert.ok((await frozen.innerText()).includes("The whole fleet is frozen"));
    for (const { path, name } of await pages()) {
      await page.goto(base + path, { waitUntil: "domcontentloaded" });
      await settled(page);
      await frozen.waitFor({ timeout: waitMs });
      if (pictures) await page.screenshot({ path: join(pictures, `${name}-narrow-frozen.png`), fullPage: true });
      assert.deepEqual(await violations(page), [], `axe on ${path}, frozen and narrow`);
      await fits(page, path);
    }
    await frozen.getByRole("button", { name: "Thaw" }).press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.type("the test is over");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "detached", timeout: waitMs });
    await frozen.waitFor({ state: "detached", timeout: waitMs });
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
});

async function drawn(page) {
  await page.locator('svg[role="img"] rect').first().waitFor({ timeout: waitMs });
  await page.locator(".chart canvas").first().waitFor({ timeout: waitMs });
  await page.locator("main figure, main .legend").first().waitFor({ timeout: waitMs });
}

test("keys, theme, pause and the address work", async () => {
  const { context, page, errors } = await open("light", "/");
  try {
    await settled(page);
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await page.waitForURL("**/devices");
    await page.getByLabel("Presence").selectOption("online");
    await page.waitForURL("**/devices?presence=online");
    await page.reload();
    await settled(page);
    assert.equal(await page.getByLabel("Presence").inputValue(), "online");
    await page.locator("body").press("?");
    await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
    assert.deepEqual(await violations(page), [], "axe on the help dialog");
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.locator("body").press("/");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("name")), "q");
    await page.keyboard.type("no-such-box");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/devices?q=no-such-box");
    await page.getByText("No device matches this filter.").waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await page.locator('[data-live="paused"]').waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.locator('[data-live="live"]').waitFor();
    await page.getByRole("button", { name: "Use the dark theme" }).click();
    assert.equal(await page.locator("html").getAttribute("data-mantine-color-scheme"), "dark");
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
});
