// What a bundle is made of besides our own sources, and under which licence: licenses.json for
// machines, licenses.txt for people. Both ship with the pages.
import { readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";

const PACKAGE = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//;
const TEXT = /^(licen[cs]e|notice|ofl)/i;

export async function writeLicenses(inputs, home, target) {
  const names = new Set(inputs.map((input) => PACKAGE.exec(input)?.[1]).filter(Boolean));
  const parts = await Promise.all([...names].sort().map((name) => part(path.join(home, "node_modules", name))));
  const listed = parts.map(({ name, version, license }) => ({ name, version, license }));
  await writeFile(path.join(target, "licenses.json"), `${JSON.stringify(listed, null, 1)}\n`);
  await writeFile(path.join(target, "licenses.txt"), parts.map(paragraph).join("\n"));
}

async function part(folder) {
  const { name, version, license, homepage } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  if (!license) throw new Error(`${name} names no licence`);
  const files = (await readdir(folder)).filter((file) => TEXT.test(file)).sort();
  const texts = await Promise.all(files.map((file) => readFile(path.join(folder, file), "utf8")));
  return { name, version, license, homepage, texts };
}

function paragraph({ name, version, license, homepage, texts }) {
  const where = `The licences' texts: https://spdx.org/licenses/${homepage ? `; the package: ${homepage}` : ""}\n`;
  return `${name} ${version}: ${license}\n${texts.length ? texts.join("\n") : where}`;
}
