// What people do: think up a rollout, act on many devices, keep a view, read and export the log, change a rule, print.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { base, expectData, first, fits, open, picture, real, settled, violations, waitMs } from "./chromium.mjs";

const json = async (path) => (await fetch(`${base}/api/v1${path}`)).json();

/** Every figure of the last step is asked of the server itself, so they are compared with it. */
test("a rollout is thought up by keyboard, foreseen, and started with a reason", { skip: !expectData }, async () => {
  const { context, page, errors } = await open("light", "/");
  try {
    await settled(page);
    await page.keyboard.press("n");
    await page.waitForURL("**/rollouts/new");
    const choose = page.locator('main button:not([data-disabled])', { hasText: "Choose" });
    await choose.first().waitFor({ timeout: waitMs });
    await choose.first().press("Enter");
    await page.waitForURL(/step=who/);
    const counted = page.locator("[data-count]");
    await counted.waitFor({ timeout: waitMs });
    const all = Number(await counted.getAttribute("data-count"));
    assert.ok(all > 0, "some devices are counted");
    const device = await first("/devices?limit=1");
    await page.getByRole("textbox", { name: "Filter" }).fill(`site=${device.site}`);
    await page.waitForURL(/filter=/);
    await page.waitForFunction((n) => Number(document.querySelector("[data-count]")?.getAttribute("data-count") ?? n) < n, all, { timeout: waitMs });
    assert.deepEqual(await violations(page), [], "axe on the devices step");
    await picture(page, "new-rollout-who");
    await page.getByRole("textbox", { name: "Filter" }).fill("site==");
    await page.getByRole("alert").waitFor({ timeout: waitMs });
    assert.equal(await page.getByRole("button", { name: /^Next/ }).getAttribute("aria-disabled"), "true", "a refused plan has no next step");
    await page.getByRole("textbox", { name: "Filter" }).fill("");
    await page.waitForFunction((n) => Number(document.querySelector("[data-count]")?.getAttribute("data-count")) === n, all, { timeout: waitMs });
    await page.getByRole("button", { name: /^Next/ }).press("Enter");
    await page.waitForURL(/step=plan/);
    await page.getByLabel("Start from").selectOption("quick");
    const bake = page.getByLabel("Bakes for").first();
    await bake.fill("soon");
    await page.getByText("Write a span such as").waitFor();
    await bake.fill("2h");
    await bake.blur();
    // Foreseen in a moment, also by a server that was built for debugging.
    for (const field of await page.getByLabel("Asks a person after").all()) {
      await field.fill("3d");
      await field.blur();
    }
    // Where a world day takes seconds, a busy machine needs world days to install.
    await page.getByLabel("Installs within").fill("20d");
    await page.getByLabel("Installs within").blur();
    // Nobody asks these boxes, so their gates must not wait for answers.
    for (const gate of await page.locator(".stages summary").all()) await gate.click();
    for (const field of [...(await page.getByLabel("Answers needed for latency").all()), ...(await page.getByLabel("Matured labels needed").all())]) await field.fill("0");
    await page.waitForFunction(() => document.querySelector('[aria-label="As a plan file"]')?.textContent?.match(/labels_min: 0/g)?.length === 2);
    await page.waitForFunction(() => document.querySelector('[aria-label="As a plan file"]')?.textContent?.includes("bake: 2h"));
    await page.reload();
    await settled(page);
    assert.equal(await page.getByLabel("Bakes for").first().inputValue(), "2h", "the plan stands in the address");
    assert.deepEqual(await violations(page), [], "axe on the plan");
    await picture(page, "new-rollout-plan");
    await page.getByRole("button", { name: /^Next/ }).press("Enter");
    await page.waitForURL(/step=foresee/);
    await page.getByRole("heading", { name: "Stage by stage" }).waitFor({ timeout: 2 * waitMs });
    assert.deepEqual(await violations(page), [], "axe on what would happen");
    await fits(page, "what would happen");
    await picture(page, "new-rollout-foreseen");
    await page.getByRole("button", { name: /^Next/ }).press("Enter");
    await page.waitForURL(/step=start/);
    const start = page.getByRole("button", { name: /^Start on/ });
    assert.equal(await start.innerText(), `Start on ${all} ${all === 1 ? "device" : "devices"}`);
    assert.ok(await start.isDisabled(), "not without a reason");
    await page.getByRole("textbox", { name: "Reason" }).fill("the browser test starts it");
    assert.deepEqual(await violations(page), [], "axe on the last step");
    await picture(page, "new-rollout-start");
    // The refused filter is the only answer that may have failed.
    const unasked = errors.filter((error) => !error.includes("422"));
    assert.deepEqual(unasked, []);
    const before = (await json("/rollouts?limit=100")).items.length;
    await start.press("Enter");
    await page.waitForURL(/\/rollouts\/ro-/, { timeout: waitMs });
    await settled(page);
    if (real) {
      assert.equal((await json("/rollouts?limit=100")).items.length, before + 1);
      await page.locator(".page-head", { hasText: "Completed" }).waitFor({ timeout: 4 * waitMs });
      await picture(page, "rollout-completed");
    }
  } finally {
    await context.close();
  }
});

test("a view is kept and forgotten, and acts on it say whom they touch", { skip: !expectData }, async () => {
  const { context, page, errors } = await open("light", "/devices");
  try {
    await settled(page);
    const device = await first("/devices?limit=1");
    await page.getByRole("textbox", { name: "Site" }).fill(device.site);
    await page.waitForURL(`**/devices?site=${device.site}`);
    await page.getByRole("button", { name: "Save view" }).click();
    await page.getByLabel("Name of the view").fill("my site");
    await page.keyboard.press("Enter");
    await page.goto(`${base}/devices`);
    await settled(page);
    await page.getByLabel("View", { exact: true }).selectOption("my site");
    await page.waitForURL(`**/devices?site=${device.site}`);
    const rows = (await json(`/devices?site=${device.site}&limit=200`)).items.length;
    await page.getByRole("button", { name: "Tag" }).click();
    await page.getByRole("dialog").getByLabel("Tags").fill("checked=browser");
    await page.getByText(new RegExp(`Changes ${rows} devices? of the ${rows} device`)).waitFor({ timeout: waitMs });
    assert.deepEqual(await violations(page), [], "axe on tagging");
    await picture(page, "devices-tag");
    await page.getByRole("button", { name: /^Tag \d/ }).click();
    await page.getByRole("dialog").waitFor({ state: "detached", timeout: waitMs });
    if (real) assert.equal((await json(`/devices/${device.id}/tags`)).tags.checked, "browser");
    await page.getByRole("button", { name: "Save as cohort" }).click();
    await page.getByLabel("Name of the cohort").fill("browser-cohort");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "detached", timeout: waitMs });
    assert.ok((await json("/cohorts")).items.some((cohort) => cohort.name === "browser-cohort" && cohort.filter === `site=${device.site}`));
    await page.getByRole("button", { name: "Forget “my site”" }).click();
    assert.equal(await page.getByLabel("View", { exact: true }).count(), 0);
    await page.getByRole("button", { name: "Roll out to these" }).click();
    await page.waitForURL(/rollouts\/new\?filter=/);
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
});

test("the log is narrowed, exported, and does not move while it is read", { skip: !expectData }, async () => {
  const { context, page, errors } = await open("light", "/audit");
  try {
    await settled(page);
    const entry = (await json("/log?limit=1")).items[0];
    await page.getByLabel("What", { exact: true }).selectOption(entry.kind);
    await page.waitForURL(/kind=/);
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export CSV" }).click()]);
    const lines = (await readFile(await download.path(), "utf8")).trim().split("\r\n");
    assert.equal(lines[0], "id,at,world_at,kind,subject,actor_kind,actor,sentence");
    assert.ok(lines.length > 1 && lines.slice(1).every((line) => line.split(",")[3] === entry.kind), "only what was asked for");
    await page.getByLabel("What", { exact: true }).selectOption("");
    const { actor } = (await json("/log?limit=100")).items.find((of) => of.actor.kind === "person");
    await page.getByLabel("By", { exact: true }).selectOption({ label: "People" });
    await page.waitForURL(/by=person/);
    const names = await page.getByLabel("Name", { exact: true }).locator("option").allInnerTexts();
    assert.ok(names.includes(actor.name), `${names} has ${actor.name}`);
    await page.getByLabel("By", { exact: true }).selectOption("");
    await page.getByLabel("What", { exact: true }).selectOption(entry.kind);
    await page.waitForURL(/kind=/);
    const top = await page.locator("main .vrow").first().innerText();
    const reason = `audit test ${Date.now()}`;
    const headers = { "content-type": "application/json" };
    await fetch(`${base}/api/v1/freezes`, { method: "POST", headers, body: JSON.stringify({ site: "audit-site", reason }) });
    await fetch(`${base}/api/v1/freezes/thaw`, { method: "POST", headers, body: JSON.stringify({ site: "audit-site", reason }) });
    if (real) {
      await page.getByRole("button", { name: /Newer entries/ }).waitFor({ timeout: waitMs });
      assert.equal(await page.locator("main .vrow").first().innerText(), top);
      await page.goto(`${base}/audit`);
      await page.getByText(reason).first().waitFor({ timeout: waitMs });
    }
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
});

test("a site's rules are changed, and its zone is what times may be written in", { skip: !expectData }, async () => {
  const { context, page, errors } = await open("dark", "/settings");
  try {
    await settled(page);
    const { site } = await first("/devices?limit=1");
    await page.getByRole("button", { name: `Edit ${site}` }).click();
    await page.getByLabel("Zone").fill("Asia/Tokyo");
    await page.getByLabel("May switch").fill("daily 00:00-23:59");
    assert.deepEqual(await violations(page), [], "axe on a site's rules");
    await picture(page, "settings-site");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached", timeout: waitMs });
    await page.getByRole("cell", { name: /Asia\/Tokyo/ }).waitFor({ timeout: waitMs });
    await page.getByLabel("Times in").selectOption("Asia/Tokyo");
    await page.waitForURL(/zone=Asia/);
    await page.getByRole("link", { name: "Audit" }).click();
    await page.waitForURL(/audit\?zone=Asia/);
    const shown = page.locator("main .vrow time").first();
    await shown.waitFor({ timeout: waitMs });
    const there = new Intl.DateTimeFormat("en-GB", { timeZone: "Asia/Tokyo", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(new Date(await shown.getAttribute("datetime")));
    assert.ok((await shown.innerText()).includes(` ${there}:`), `${await shown.innerText()} says ${there}`);
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
});

test("a rollout is printed as a report, whole and without buttons", { skip: !expectData }, async () => {
  const rollout = await first("/rollouts?limit=1");
  const { context, page, errors } = await open("dark", `/rollouts/${rollout.id}`);
  try {
    await settled(page);
    await page.evaluate(() => {
      globalThis.print = () => {
        globalThis.printed = true;
      };
    });
    await page.getByRole("button", { name: "Print report" }).click();
    assert.equal(await page.evaluate(() => globalThis.printed), true);
    await page.emulateMedia({ media: "print", colorScheme: "light" });
    await page.setViewportSize({ width: 703, height: 1_000 });
    await page.locator(".printed").waitFor();
    assert.ok((await page.locator(".printed").innerText()).includes(rollout.id));
    assert.equal(await page.locator("header.top, nav.side, .page-head .right").evaluateAll((all) => all.filter((one) => one.checkVisibility()).length), 0);
    assert.equal(await page.locator("main details:not([open])").count(), 0, "what was folded is open");
    await fits(page, "the printed rollout");
    await picture(page, "rollout-printed");
    const pdf = await page.pdf({ format: "A4", preferCSSPageSize: true });
    assert.ok(pdf.length > 20_000);
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
});

test("lists are walked with j and k, and a refusal says what to do", async () => {
  const { context, page, errors } = await open("light", "/");
  try {
    await settled(page);
    if (expectData) {
      const focused = () => page.evaluate(() => document.activeElement?.closest("[data-row]")?.textContent);
      await page.locator("main [data-row] a").first().waitFor({ timeout: waitMs });
      await page.keyboard.press("j");
      const one = await focused();
      await page.keyboard.press("j");
      assert.notEqual(await focused(), one);
      await page.keyboard.press("k");
      assert.equal(await focused(), one);
    }
    assert.deepEqual(errors, []);
    await page.goto(`${base}/rollouts/ro-00000000000000000000000000`);
    await page.getByRole("alert").waitFor({ timeout: waitMs });
    assert.ok((await page.getByRole("alert").innerText()).includes("Go to the list"));
    await page.route("**/api/v1/devices**", (route) => route.fulfill({ status: 403, contentType: "application/problem+json", body: '{"title":"You may not do this","status":403,"code":"forbidden","detail":"devices are not yours to see"}' }));
    await page.goto(`${base}/devices`);
    await page.getByRole("alert").waitFor({ timeout: waitMs });
    assert.ok((await page.getByRole("alert").innerText()).includes("Ask somebody who may"));
    assert.deepEqual(await violations(page), [], "axe on a refusal");
    await page.unroute("**/api/v1/devices**");
    await page.route("**/api/v1/**", (route) => route.abort());
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByRole("alert").filter({ hasText: "does not answer" }).waitFor({ timeout: waitMs });
    await picture(page, "server-gone");
  } finally {
    await context.close();
  }
});
