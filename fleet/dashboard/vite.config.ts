// Builds dist/: hashed assets, each text file with its brotli sibling, which the server hands out as it is.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const compressible = /\.(js|css|html|svg)$/;
const smallestWorthwhileBytes = 1024;

/** In writeBundle, not generateBundle: Vite still edits chunks between the two, and stale siblings break the page. */
function brotliSiblings(): Plugin {
  return {
    name: "brotli-siblings",
    apply: "build",
    async writeBundle({ dir }) {
      if (dir === undefined) throw new Error("brotli-siblings: the build has no output folder");
      for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !compressible.test(entry.name)) continue;
        const path = join(entry.parentPath, entry.name);
        const bytes = await readFile(path);
        if (bytes.length < smallestWorthwhileBytes) continue;
        await writeFile(
          `${path}.br`,
          brotliCompressSync(bytes, {
            params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
          }),
        );
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), brotliSiblings()],
  build: { target: "es2023", sourcemap: false, assetsInlineLimit: 0, chunkSizeWarningLimit: 700 },
  server: { proxy: { "/api": process.env["MUSTER_SERVER"] ?? "http://127.0.0.1:8480" } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
