// Every page in light and dark, and in a narrow window while the fleet is frozen. What the environment may say: chromium.mjs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { base, expectData, first, fits, open, picture, settled, violations, waitMs } from "./chromium.mjs";

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
    { path: "/access", name: "access", heading: "Access", rows: true },
    ...(bundle === undefined ? [] : [{ path: `/models/${bundle.sha256}`, name: "model", heading: bundle.model, rows: false }]),
    { path: "/runs", name: "runs", heading: "Retraining", rows: run !== undefined },
    ...of("/runs", run, "run", run?.model),
  ];
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
          await picture(page, `${name}-${scheme}`);
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
      await picture(page, `${name}-narrow-frozen`);
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

test("the site of a box is frozen where the box is looked at", async () => {
  const { context, page, errors } = await open("light", "/devices");
  try {
    await settled(page);
    const free = page.locator("main .vrow", { hasNotText: "er-3" }).locator('a[href^="/devices/"]').first();
    await free.click();
    await page.waitForURL(/\/devices\/[^?]+/);
    await settled(page);
    const freeze = page.locator(".page-head").getByRole("button", { name: /^Freeze / });
    const site = (await freeze.innerText()).replace("Freeze ", "").trim();
    await freeze.press("Enter");
    await page.getByRole("dialog").getByText(`devices in ${site}`).waitFor();
    assert.deepEqual(await violations(page), [], "axe on the question");
    await page.keyboard.type("looking into it");
    await page.getByRole("dialog").getByRole("button", { name: `Freeze ${site}` }).press("Enter");
    const frozen = page.getByRole("region", { name: "Freeze" }).locator(".frozen").filter({ hasText: "looking into it" });
    await frozen.getByText(`${site} is frozen`).waitFor({ timeout: waitMs });
    assert.equal(await freeze.getAttribute("aria-disabled"), "true", "it is frozen already");
    await picture(page, "device-frozen");
    await page.goto(`${base}/devices?site=${site}`, { waitUntil: "domcontentloaded" });
    await settled(page);
    await page.locator(".page-head").getByRole("button", { name: `Freeze ${site}` }).waitFor();
    await frozen.getByRole("button", { name: "Thaw" }).press("Enter");
    await page.getByRole("dialog").getByRole("textbox", { name: "Reason" }).fill("looked into");
    await page.getByRole("dialog").getByRole("button", { name: "Thaw" }).press("Enter");
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
    if (expectData) {
      const device = await first("/devices?limit=1");
      await page.keyboard.type(device.name);
      const option = page.getByRole("option", { name: device.name });
      await option.first().waitFor({ timeout: waitMs });
      assert.deepEqual(await violations(page), [], "axe on what a search finds");
      await page.keyboard.press("ArrowDown");
      await page.keyboard.press("Enter");
      await page.waitForURL(`**/devices/${device.id}`);
      await settled(page);
      await page.locator("body").press("/");
    }
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

test("who is not logged in is asked to, is told what went wrong, and comes in", async () => {
  const refused = (detail) => ({ status: 401, contentType: "application/problem+json", body: JSON.stringify({ title: "Say who you are", status: 401, code: "unauthenticated", detail }) });
  for (const scheme of ["light", "dark"]) {
    const { context, page } = await open(scheme, "/settings", 390);
    try {
      await settled(page);
      await page.route("**/api/v1/overview", (route) => route.fulfill(refused("say who you are")));
      await page.route("**/api/v1/login", (route) =>
        route.request().method() === "POST"
          ? route.fulfill(route.request().postDataJSON().password === "correct horse battery" ? { status: 200, contentType: "application/json", body: '{"name":"ada"}' } : refused("name or password is wrong"))
          : route.fulfill({ status: 200, contentType: "application/json", body: '{"mode":"required","setup":false,"provider":"Hospital login"}' }),
      );
      await page.goto(base, { waitUntil: "domcontentloaded" });
      await page.waitForURL("**/login");
      await page.getByRole("link", { name: "Hospital login" }).waitFor({ timeout: waitMs });
      assert.equal(await page.locator("h1").innerText(), "Log in");
      assert.equal(await page.getByRole("navigation").count(), 0, "the frame is not shown to whoever is not logged in");
      await page.getByLabel("Name").fill("ada");
      await page.getByLabel("Password").fill("wrong");
      await page.keyboard.press("Enter");
      assert.equal(await page.getByRole("alert").innerText(), "name or password is wrong");
      await picture(page, `login-${scheme}`);
      assert.deepEqual(await violations(page), [], "axe on /login");
      await fits(page, "/login");
      await page.unroute("**/api/v1/overview");
      await page.getByLabel("Password").fill("correct horse battery");
      await page.keyboard.press("Enter");
      await page.waitForURL(`${base}/`);
      await page.goto(`${base}/setup#0123`, { waitUntil: "domcontentloaded" });
      await page.getByLabel("Your name for others").waitFor({ timeout: waitMs });
      assert.deepEqual(await violations(page), [], "axe on /setup");
    } finally {
      await context.close();
    }
  }
});
