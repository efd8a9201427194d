// The generic column decoder and the input packer of docs/wire.md §3 and §4.
import { ColumnKind } from "../gen/rallypoint/v1/room_pb";
import { CellRows } from "./cells";
import { Reader, widthOf, WireError } from "./reader";

export { widthOf, WireError } from "./reader";

/** A column as the schema describes it; `rallypoint.v1.Column` fits. */
export interface ColumnSpec {
  readonly name: string;
  readonly kind: ColumnKind;
  readonly min: number;
  readonly max: number;
}

/** A table as the schema describes it; `rallypoint.v1.Table` fits. */
export interface TableSpec {
  readonly id: number;
  readonly name: string;
  readonly rows: number;
  readonly columns: readonly ColumnSpec[];
  readonly visibility: number;
}

/** Who receives a table: numbers of `rallypoint.v1.Visibility`. */
const CELL = 2;
const OWNER = 4;

/** The decoded state of one table: a typed column by name. */
export class Table {
  readonly spec: TableSpec;
  readonly rows: number;
  readonly columns: ReadonlyMap<string, Float64Array>;
  readonly #ordered: readonly Float64Array[];
  readonly #cells: CellRows | undefined;

  constructor(spec: TableSpec) {
    this.spec = spec;
    // A seat receives only its own row of a table that is its owner's alone.
    this.rows = spec.visibility === OWNER ? 1 : spec.rows;
    this.#ordered = spec.columns.map(() => new Float64Array(this.rows));
    this.columns = new Map(spec.columns.map((column, at) => [column.name, this.#at(at)]));
    this.#cells = spec.visibility === CELL ? new CellRows(spec, this.#ordered) : undefined;
    this.clear();
  }

  /** The values of a column; throws when the schema has none of that name. */
  column(name: string): Float64Array {
    const column = this.columns.get(name);
    if (!column) throw new WireError(`table ${this.spec.name} has no column ${name}`);
    return column;
  }

  /** One value. */
  get(name: string, row: number): number {
    return this.column(name)[row] ?? 0;
  }

  /** The state a keyframe is a difference to: stored zeros, so `min` for quantized columns. */
  clear(): void {
    this.#cells?.clear();
    this.spec.columns.forEach((column, at) => this.#at(at).fill(valueOf(column, 0)));
  }

  /** Apply a section. Nothing is changed unless all of it can be read. */
  apply(data: Uint8Array): void {
    if (this.#cells) {
      this.#cells.apply(data);
      return;
    }
    for (const pass of ["check", "write"] as const) this.#read(new Reader(data), pass === "write");
  }

  #read(reader: Reader, write: boolean): void {
    for (const index of reader.mask(this.spec.columns.length)) {
      const spec = this.spec.columns[index] as ColumnSpec;
      for (const row of reader.mask(this.rows)) {
        const stored = reader.number(spec.kind);
        if (write) this.#at(index)[row] = valueOf(spec, stored);
      }
    }
    reader.finish();
  }

  #at(index: number): Float64Array {
    return this.#ordered[index] as Float64Array;
  }
}

/** All tables of a room, fed with the sections of its frames. */
export class Tables {
  readonly #byId = new Map<number, Table>();
  readonly #byName = new Map<string, Table>();

  constructor(specs: readonly TableSpec[]) {
    for (const spec of specs) {
      const table = new Table(spec);
      this.#byId.set(spec.id, table);
      this.#byName.set(spec.name, table);
    }
  }

  /** The table; throws when the schema has none of that name. */
  table(name: string): Table {
    const table = this.#byName.get(name);
    if (!table) throw new WireError(`no table ${name}`);
    return table;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** Apply a frame's sections; a keyframe starts from zeros. */
  apply(sections: readonly { table: number; data: Uint8Array }[], keyframe: boolean): void {
    if (keyframe) for (const table of this.#byId.values()) table.clear();
    for (const section of sections) {
      const table = this.#byId.get(section.table);
      if (!table) throw new WireError(`a section of table ${section.table}, which is not in the schema`);
      table.apply(section.data);
    }
  }
}

/** Packs inputs as the schema describes them. */
export class InputPacker {
  readonly columns: readonly ColumnSpec[];
  readonly size: number;

  constructor(columns: readonly ColumnSpec[]) {
    this.columns = columns;
    this.size = columns.reduce((total, column) => total + widthOf(column.kind), 0);
  }

  /** One input's bytes. A field that is not given is 0. */
  pack(values: Readonly<Record<string, number>>): Uint8Array {
    const bytes = new Uint8Array(this.size);
    const view = new DataView(bytes.buffer);
    let at = 0;
    for (const column of this.columns) {
      writeAt(view, at, column.kind, storedOf(column, values[column.name] ?? 0));
      at += widthOf(column.kind);
    }
    return bytes;
  }

  /** What the server reads from these values: clamped and rounded. Predict with this. */
  quantized(values: Readonly<Record<string, number>>): Record<string, number> {
    const entries = this.columns.map((column): [string, number] => {
      const stored = storedOf(column, values[column.name] ?? 0);
      const exact = column.kind === ColumnKind.F32 ? Math.fround(stored) : stored;
      return [column.name, valueOf(column, exact)];
    });
    return Object.fromEntries(entries);
  }
}

/** What a stored number stands for. */
export function valueOf(column: ColumnSpec, stored: number): number {
  if (column.kind === ColumnKind.Q8) return column.min + (stored * (column.max - column.min)) / 255;
  if (column.kind === ColumnKind.Q16) return column.min + (stored * (column.max - column.min)) / 65535;
  return stored;
}

/** The number that is stored for a value: clamped to the column's range, half to even, NaN as 0. */
export function storedOf(column: ColumnSpec, value: number): number {
  const kind = column.kind;
  if (kind === ColumnKind.F32) return value;
  if (Number.isNaN(value)) return 0;
  if (kind !== ColumnKind.Q8 && kind !== ColumnKind.Q16) return clampedInteger(kind, value);
  const top = kind === ColumnKind.Q8 ? 255 : 65535;
  const scaled = (value - column.min) * (top / (column.max - column.min));
  return halfToEven(Math.min(top, Math.max(0, scaled)));
}

function clampedInteger(kind: ColumnKind, value: number): number {
  const bits = widthOf(kind) * 8;
  const signed = kind === ColumnKind.I8 || kind === ColumnKind.I16 || kind === ColumnKind.I32;
  const least = signed ? -(2 ** (bits - 1)) : 0;
  return Math.min(least + 2 ** bits - 1, Math.max(least, halfToEven(value)));
}

function halfToEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

function writeAt(view: DataView, at: number, kind: ColumnKind, stored: number): void {
  if (kind === ColumnKind.F32) return view.setFloat32(at, stored, true);
  const width = widthOf(kind);
  if (width === 1) return view.setUint8(at, stored & 0xff);
  if (width === 2) return view.setUint16(at, stored & 0xffff, true);
  return view.setUint32(at, stored >>> 0, true);
}
