// Bundle the pages into dist/: hashed names for everything that may be cached for ever, index.html
// and operator.html for what may not. Sources map to the TypeScript, so a browser's debugger shows it.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { writeLicenses } from "./licenses.mjs";

const home = path.resolve(import.meta.dirname, "..");
const dist = path.join(home, "dist");
const staged = path.join(home, "dist.new");

const pages = [
  { name: "app", entry: "src/page/main.ts", html: "src/page/index.html", to: "index.html" },
  { name: "operator", entry: "src/operator/main.ts", html: "src/operator/index.html", to: "operator.html" },
  { name: "replay", entry: "src/replay/main.ts", html: "src/replay/index.html", to: "replay.html" },
];

await rm(staged, { recursive: true, force: true });
await mkdir(staged, { recursive: true });
const result = await build({
  absWorkingDir: home,
  entryPoints: pages.map((page) => ({ in: page.entry, out: page.name })),
  outdir: staged,
  entryNames: "assets/[name]-[hash]",
  assetNames: "assets/[name]-[hash]",
  bundle: true,
  minify: true,
  sourcemap: "linked",
  format: "esm",
  target: ["es2022", "chrome109", "firefox115", "safari16"],
  loader: { ".woff2": "file", ".svg": "file" },
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});
const outputs = Object.entries(result.metafile.outputs);
const address = (output) => `/${path.relative(staged, path.resolve(home, output))}`;
for (const page of pages) {
  const [script, { cssBundle }] = outputs.find(([, output]) => output.entryPoint === page.entry);
  const html = await readFile(path.join(home, page.html), "utf8");
  await writeFile(
    path.join(staged, page.to),
    html.replace("{{script}}", address(script)).replace("{{style}}", address(cssBundle)),
  );
}
await writeLicenses(Object.keys(result.metafile.inputs), home, staged);
// Only now may the old build go: a failed bundle leaves it in place.
await mkdir(dist, { recursive: true });
for (const name of await readdir(dist)) await rm(path.join(dist, name), { recursive: true });

for (const name of await readdir(staged)) await rename(path.join(staged, name), path.join(dist, name));
await rm(staged, { recursive: true });
