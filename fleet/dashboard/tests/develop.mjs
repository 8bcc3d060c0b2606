// Runs the browser test against the stand-in: `npm run build && node tests/develop.mjs`, while pages are made.
import { spawn } from "node:child_process";
import { startFake } from "./fake-api.mjs";

const fake = await startFake({ devices: Number(process.env.DEVICES ?? 6), empty: process.env.EMPTY === "1" });
const env = { ...process.env, BASE_URL: fake.url, EXPECT_DATA: process.env.EMPTY === "1" ? "0" : "1" };
const run = spawn(process.execPath, ["--test", "--test-concurrency=1", ...(process.argv.length > 2 ? process.argv.slice(2) : ["tests/browser.test.mjs", "tests/acts.test.mjs"])], { env, stdio: "inherit" });
run.on("exit", async (code) => {
  await fake.stop();
  process.exitCode = code ?? 1;
});
