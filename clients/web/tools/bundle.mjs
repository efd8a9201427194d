// Bundle the page into dist/: hashed names for everything that may be cached for ever, index.html
// for what may not. Sources map to the TypeScript, so a browser's debugger shows it.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";

const home = path.resolve(import.meta.dirname, "..");
const dist = path.join(home, "dist");
const staged = path.join(home, "dist.new");

await rm(staged, { recursive: true, force: true });
await mkdir(staged, { recursive: true });
const result = await build({
  absWorkingDir: home,
  entryPoints: [{ in: "src/page/main.ts", out: "app" }],
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
const names = Object.keys(result.metafile.outputs).map((name) =>
  path.relative(staged, path.resolve(home, name)),
);
const named = (ending) => names.find((name) => name.endsWith(ending));
const page = await readFile(path.join(home, "src/page/index.html"), "utf8");
await writeFile(
  path.join(staged, "index.html"),
  page.replace("{{script}}", `/${named(".js")}`).replace("{{style}}", `/${named(".css")}`),
);
// Only now may the old build go: a failed bundle leaves it in place.
await mkdir(dist, { recursive: true });
for (const name of await readdir(dist)) await rm(path.join(dist, name), { recursive: true });

for (const name of await readdir(staged)) await rename(path.join(staged, name), path.join(dist, name));
await rm(staged, { recursive: true });
