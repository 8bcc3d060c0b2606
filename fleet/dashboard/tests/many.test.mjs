// 100,000 devices from the stand-in: the page is there at once, and stays small however far somebody scrolls.
//
//   CHROMIUM      the browser's program (default /usr/bin/chromium)
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, measure, scrolledRows } from "./crowd.mjs";
import { startFake } from "./fake-api.mjs";

const devices = 100_000;
const nodesMax = 1_500;
const heapMax = 60_000_000;
const interactiveMs = 1_000;

let fake;
let browser;
before(async () => {
  fake = await startFake({ devices });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await fake?.stop();
});

test(`${devices} devices`, async (t) => {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const { interactive, first, most, heap, slowest } = await measure(page, fake.url);
  assert.equal(await page.locator(`.vrow[data-index="${scrolledRows}"] a`).first().innerText(), `er-${(scrolledRows % 3) + 1}-box-${scrolledRows}`);
  t.diagnostic(`interactive after ${interactive} ms; ${first} nodes at first, ${most} at most; heap ${(heap / 1e6).toFixed(1)} MB after ${scrolledRows} rows; slowest jump of 100 rows ${slowest} ms`);
  assert.ok(interactive <= interactiveMs, `interactive after ${interactive} ms`);
  assert.ok(most <= nodesMax, `${most} nodes`);
  assert.ok(heap <= heapMax, `${heap} bytes of heap`);
  // And what is asked for again is what is looked at (with the interval at most twice), not the 50 pages scrolled past.
  const requests = [];
  page.on("request", (request) => request.url().includes("/devices?") && requests.push(request.url()));
  fake.emit("device.online", "d-1");
  await page.waitForTimeout(2_500);
  assert.ok(requests.length > 0 && requests.length <= 8, `an event asks for ${requests.length} pages`);
});
