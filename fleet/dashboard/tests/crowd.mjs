// How the device list does on very many devices: when somebody can use it, and how large it grows while they scroll.
//
//   node tests/crowd.mjs BASE_URL     prints what was measured as one line of JSON (`make bench-devices`)
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const scrolledRows = 10_000;
const loads = 4;

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--js-flags=--expose-gc", "--enable-precise-memory-info"],
  });

/** Milliseconds until there are rows to use, elements in the page, bytes of its heap. */
export async function measure(page, base) {
  const row = page.locator(".vrow[data-row] a").first();
  // The best of several: what else the machine does is not the page's, and the first pays for the browser's start.
  let interactive = Infinity;
  for (let load = 0; load < loads; load += 1) {
    const asked = Date.now();
    await page.goto(`${base}/devices?zone=UTC&load=${load}`);
    await row.waitFor();
    interactive = Math.min(interactive, Date.now() - asked);
  }
  const nodes = () => page.evaluate(() => document.querySelectorAll("*").length);
  const first = await nodes();
  let [most, slowest] = [first, 0];
  const place = page.getByRole("region", { name: "Devices" });
  for (let scrolled = 0; scrolled <= scrolledRows; scrolled += 100) {
    const began = Date.now();
    await place.evaluate((element, top) => element.scrollTo({ top }), scrolled * 40);
    await page.locator(`.vrow[data-row][data-index="${scrolled}"]`).waitFor();
    slowest = Math.max(slowest, Date.now() - began);
    most = Math.max(most, await nodes());
  }
  const heap = await page.evaluate(() => {
    globalThis.gc();
    return performance.memory.usedJSHeapSize;
  });
  return { interactive, first, most, heap, slowest };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const browser = await launch();
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  console.log(JSON.stringify(await measure(page, process.argv[2])));
  await browser.close();
}
