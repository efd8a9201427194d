// The generic column decoder and the input packer of docs/wire.md §3 and §4.
import { ColumnKind } from "../gen/rallypoint/v1/room_pb";

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

/** What makes the bytes of a section or an input unreadable. */
export class WireError extends Error {
  override readonly name = "WireError";
}

const OWNER = 4;

const WIDTH: Readonly<Record<ColumnKind, number>> = {
  [ColumnKind.UNSPECIFIED]: 0,
  [ColumnKind.U8]: 1,
  [ColumnKind.U16]: 2,
  [ColumnKind.U32]: 4,
  [ColumnKind.I8]: 1,
  [ColumnKind.I16]: 2,
  [ColumnKind.I32]: 4,
  [ColumnKind.F32]: 4,
  [ColumnKind.Q8]: 1,
  [ColumnKind.Q16]: 2,
};

/** Bytes of one value of this kind. */
export function widthOf(kind: ColumnKind): number {
  const width = WIDTH[kind];
  if (!width) throw new WireError(`unknown column kind ${kind}`);
  return width;
}

/** The decoded state of one table: a typed column by name. */
export class Table {
  readonly spec: TableSpec;
  readonly rows: number;
  readonly columns: ReadonlyMap<string, Float64Array>;
  readonly #ordered: readonly Float64Array[];

  constructor(spec: TableSpec) {
    this.spec = spec;
    // A seat receives only its own row of a table that is its owner's alone.
    this.rows = spec.visibility === OWNER ? 1 : spec.rows;
    this.#ordered = spec.columns.map(() => new Float64Array(this.rows));
    this.columns = new Map(spec.columns.map((column, at) => [column.name, this.#at(at)]));
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
    this.spec.columns.forEach((column, at) => this.#at(at).fill(valueOf(column, 0)));
  }

  /** Apply a section. Nothing is changed unless all of it can be read. */
  apply(data: Uint8Array): void {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    for (const pass of ["check", "write"] as const) {
      const end = this.#read(view, pass === "write");
      if (end !== data.length) throw new WireError(`section of ${data.length} bytes, ${end} used`);
    }
  }

  #read(view: DataView, write: boolean): number {
    const columns = this.spec.columns;
    const colmask = maskAt(view, 0, columns.length);
    let at = bytesOfMask(columns.length);
    for (const index of colmask) {
      const spec = columns[index] as ColumnSpec;
      const rowmask = maskAt(view, at, this.rows);
      at += bytesOfMask(this.rows);
      const width = widthOf(spec.kind);
      if (at + rowmask.length * width > view.byteLength) throw new WireError("the section is short");
      for (const row of rowmask) {
        if (write) this.#at(index)[row] = valueOf(spec, readAt(view, at, spec.kind));
        at += width;
      }
    }
    return at;
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

function bytesOfMask(bits: number): number {
  return Math.ceil(bits / 8);
}

/** The set bits of a mask, ascending. */
function maskAt(view: DataView, at: number, bits: number): number[] {
  const size = bytesOfMask(bits);
  if (at + size > view.byteLength) throw new WireError("the section is short");
  const found: number[] = [];
  for (let byte = 0; byte < size; byte++) {
    const value = view.getUint8(at + byte);
    for (let bit = 0; value >> bit; bit++) if ((value >> bit) & 1) found.push(byte * 8 + bit);
  }
  if ((found.at(-1) ?? 0) >= bits && found.length > 0) throw new WireError("a set bit beyond the last row or column");
  return found;
}

function readAt(view: DataView, at: number, kind: ColumnKind): number {
  switch (kind) {
    case ColumnKind.U8:
    case ColumnKind.Q8:
      return view.getUint8(at);
    case ColumnKind.U16:
    case ColumnKind.Q16:
      return view.getUint16(at, true);
    case ColumnKind.U32:
      return view.getUint32(at, true);
    case ColumnKind.I8:
      return view.getInt8(at);
    case ColumnKind.I16:
      return view.getInt16(at, true);
    case ColumnKind.I32:
      return view.getInt32(at, true);
    case ColumnKind.F32:
      return view.getFloat32(at, true);
    default:
      throw new WireError(`unknown column kind ${kind}`);
  }
}

function writeAt(view: DataView, at: number, kind: ColumnKind, stored: number): void {
  if (kind === ColumnKind.F32) return view.setFloat32(at, stored, true);
  const width = widthOf(kind);
  if (width === 1) return view.setUint8(at, stored & 0xff);
  if (width === 2) return view.setUint16(at, stored & 0xffff, true);
  return view.setUint32(at, stored >>> 0, true);
}
