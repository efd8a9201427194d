// Bundle every test/*.test.ts and run them with Node's own test runner.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import path from "node:path";

const home = path.resolve(import.meta.dirname, "..");
const out = await mkdtemp(path.join(home, "node_modules", ".tests-"));
try {
  const tests = (await readdir(path.join(home, "test"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: home,
    entryPoints: tests.map((name) => `test/${name}`),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    logLevel: "warning",
  });
  const files = (await readdir(out)).map((name) => path.join(out, name));
  const env = { ...process.env, RALLYPOINT_ROOT: path.resolve(home, "../..") };
  const args = ["--enable-source-maps", "--test", ...files];
  process.exitCode = spawnSync(process.execPath, args, { stdio: "inherit", env }).status ?? 1;
} finally {
  await rm(out, { recursive: true, force: true });
}
