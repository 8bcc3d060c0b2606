// Walks the way of somebody who sees the dashboard for the first time, at a running `make demo`, and times each question:
// which boxes run a version, why does a box wait, stop that rollout. By what is on the screen alone; no address is typed.
// The fleet is frozen first: the only other version there is, the stale one, would be sent back by its gate within seconds.
//
//   BASE_URL=http://127.0.0.1:8480 npm run newcomer
import { launch } from "./launch.mjs";

const base = process.env.BASE_URL ?? "http://127.0.0.1:8480";
const waitMs = 20_000;
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
page.setDefaultTimeout(waitMs);

let clicks = 0;
const click = async (what) => {
  clicks += 1;
  await what.click();
};
const fill = async (what, value) => {
  await what.fill(value);
  await what.blur();
};

/** Prints what it took until the answer stood on the screen. */
async function ask(question, walk) {
  clicks = 0;
  const began = performance.now();
  const answer = await walk();
  console.log(`${question}\n    ${clicks} clicks, ${((performance.now() - began) / 1000).toFixed(1)} s of the pages' time: ${answer}`);
}

try {
  await page.goto(base, { waitUntil: "domcontentloaded" });
  const legend = page.locator('main a[href*="bundle="]').first();
  await legend.waitFor();

  await ask("Which boxes run this version?", async () => {
    const version = (await legend.innerText()).trim();
    await click(legend);
    await page.waitForURL(/devices\?/);
    const rows = page.locator("main [data-row], main .vrow");
    await rows.first().waitFor();
    return `${await rows.count()} rows for "${version.replace(/\s+/g, " ")}"`;
  });

  const reasoned = async (confirm, reason) => {
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("textbox", { name: "Reason" }).fill(reason);
    await click(dialog.getByRole("button", { name: confirm }));
    await dialog.waitFor({ state: "detached" });
  };

  await ask("Let nothing new begin on any box for now", async () => {
    await click(page.getByRole("link", { name: "Settings" }).first());
    await click(page.getByRole("button", { name: "Freeze the whole fleet" }));
    await reasoned(/^Freeze/, "a first look");
    const told = page.getByText(/whole fleet is frozen|fleet is frozen/i).first();
    await told.waitFor();
    return told.innerText();
  });

  await ask("Start a rollout all the same", async () => {
    await click(page.getByRole("link", { name: "Rollouts" }).first());
    await click(page.getByRole("link", { name: /new rollout/i }).or(page.getByRole("button", { name: /new rollout/i })).first());
    await click(page.locator("main button:not([data-disabled])", { hasText: "Choose" }).last());
    const next = page.getByRole("button", { name: /^Next/ });
    await page.locator("[data-count]").waitFor();
    await click(next);
    await page.getByLabel("Start from").selectOption("quick");
    // Half a day of this world takes a second.
    for (const field of await page.getByLabel("Bakes for").all()) await fill(field, "200d");
    for (const field of await page.getByLabel("Asks a person after").all()) await fill(field, "360d");
    await fill(page.getByLabel("Installs within"), "100d");
    await click(next);
    await page.getByRole("heading", { name: "Stage by stage" }).waitFor();
    await click(next);
    await page.getByRole("textbox", { name: "Reason" }).fill("a first look");
    await click(page.getByRole("button", { name: /^Start on/ }));
    await page.waitForURL(/\/rollouts\/ro-/);
    await page.getByRole("button", { name: "Abort" }).waitFor();
    return (await page.locator("h1").innerText()).replace(/\s+/g, " ");
  });

  await ask("Why is this box waiting?", async () => {
    await click(page.getByRole("link", { name: "Devices", exact: true }).first());
    const waiting = page.locator("main .vrow", { hasText: /frozen/i }).first();
    await waiting.waitFor();
    await click(waiting.getByRole("link").first());
    const why = page.locator(".panel", { hasText: "Why it waits" }).getByText(/frozen/i).first();
    await why.waitFor();
    return (await why.innerText()).replace(/\s+/g, " ");
  });

  await ask("Stop that rollout", async () => {
    await click(page.locator(".panel", { hasText: "Why it waits" }).getByRole("link").first());
    await click(page.getByRole("button", { name: "Abort" }));
    await reasoned("Abort", "a first look is over");
    const head = page.locator(".page-head", { hasText: /Abort(ed|ing)/ });
    await head.waitFor();
    return (await head.innerText()).replace(/\s+/g, " ").slice(0, 80);
  });

  await ask("Let boxes move again", async () => {
    await click(page.getByRole("button", { name: "Thaw" }).first());
    await reasoned("Thaw", "a first look is over");
    await page.getByRole("button", { name: "Thaw" }).waitFor({ state: "detached" });
    return "the notice is gone";
  });
} finally {
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  await browser.close();
}
