import { fromBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { ColumnKind, FrameSchema, Visibility } from "../src/gen/rallypoint/v1/room_pb";
import { InputPacker, Tables, WireError } from "../src/room/columns";
import type { ColumnSpec, TableSpec } from "../src/room/columns";

interface Vector {
  name: string;
  schema: { tables: TableSpec[]; input: ColumnSpec[] };
  frames: { hex: string; tables: Record<string, Record<string, (number | string)[]>> }[];
  errors: { hex: string; reason: string }[];
  inputs: { hex: string; values: Record<string, number | string> }[];
}

const folder = path.join(process.env["RALLYPOINT_ROOT"] ?? "", "tests/contract/vectors");
const vectors = readdirSync(folder)
  .filter((name) => name.endsWith(".json"))
  .map((name) => JSON.parse(readFileSync(path.join(folder, name), "utf8")) as Vector);

function apply(tables: Tables, hex: string): void {
  const frame = fromBinary(FrameSchema, Buffer.from(hex, "hex"));
  tables.apply(frame.sections, frame.baseTick === 0);
}

function close(actual: number, expected: number): boolean {
  if (Number.isNaN(expected)) return Number.isNaN(actual);
  return Math.abs(actual - expected) <= 1e-9 * Math.max(1, Math.abs(expected));
}

test("cells that were held before a keyframe of the room are forgotten", () => {
  const column = { name: "code", kind: ColumnKind.U8, min: 0, max: 0 };
  const tables = new Tables([{ id: 1, name: "ships", rows: 8, columns: [column], visibility: Visibility.CELL }]);
  // Cell 5: row 3 came, its code is 42; then only the code has changed.
  tables.apply([{ table: 1, data: Uint8Array.of(5, 1, 0, 1, 3, 1, 1, 42) }], true);
  assert.equal(tables.table("ships").get("code", 3), 42);
  tables.apply([], true);
  assert.equal(tables.table("ships").get("code", 3), 0);
  const delta = { table: 1, data: Uint8Array.of(5, 0, 0, 0, 1, 1, 43) };
  assert.throws(() => tables.apply([delta], false), WireError);
});

test("there are golden vectors to judge by", () => {
  assert.ok(vectors.some((vector) => vector.errors.length > 0));
  assert.ok(vectors.some((vector) => vector.inputs.length > 0));
});

for (const vector of vectors) {
  test(`vector ${vector.name}: frames decode to the recorded values`, () => {
    const tables = new Tables(vector.schema.tables);
    for (const frame of vector.frames) {
      apply(tables, frame.hex);
      for (const [name, columns] of Object.entries(frame.tables)) {
        for (const [column, expected] of Object.entries(columns)) {
          const actual = tables.table(name).column(column);
          assert.equal(actual.length, expected.length);
          expected.forEach((value, row) =>
            assert.ok(close(actual[row] ?? NaN, Number(value)), `${name}.${column}[${row}] ${actual[row]} ≠ ${value}`),
          );
        }
      }
    }
  });

  test(`vector ${vector.name}: broken frames are refused and change nothing`, () => {
    for (const { hex, reason } of vector.errors) {
      const tables = new Tables(vector.schema.tables);
      const before = JSON.stringify(vector.schema.tables.map((t) => [...tables.table(t.name).columns.values()].map((c) => [...c])));
      assert.throws(() => apply(tables, hex), WireError, reason);
      const after = JSON.stringify(vector.schema.tables.map((t) => [...tables.table(t.name).columns.values()].map((c) => [...c])));
      assert.equal(after, before, reason);
    }
  });

  test(`vector ${vector.name}: inputs pack to the recorded bytes`, () => {
    const packer = new InputPacker(vector.schema.input);
    for (const { hex, values } of vector.inputs) {
      const numbers = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)]));
      assert.equal(Buffer.from(packer.pack(numbers)).toString("hex"), hex);
      const read = packer.quantized(numbers);
      assert.equal(Buffer.from(packer.pack(read)).toString("hex"), hex, "quantizing twice changes nothing");
    }
  });
}
