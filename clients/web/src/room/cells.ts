// The rows of a table of visibility CELL, cell by cell (docs/wire.md §3). Cells are kept apart, since
// the server may update them at different ticks; the columns show of each row what came last.
import type { ColumnSpec, TableSpec } from "./columns";
import { valueOf } from "./columns";
import { Reader, WireError } from "./reader";

const DELTA = 0;
const KEYFRAME = 1;
const GONE = 2;
const NOWHERE = -1;

/** Stored numbers by row, one per column. */
type Rows = Map<number, number[]>;

export class CellRows {
  readonly #spec: TableSpec;
  readonly #columns: readonly Float64Array[];
  readonly #cells = new Map<number, Rows>();
  readonly #shownFrom: Float64Array;

  /** `columns` are the arrays that rows are shown in. */
  constructor(spec: TableSpec, columns: readonly Float64Array[]) {
    this.#spec = spec;
    this.#columns = columns;
    this.#shownFrom = new Float64Array(spec.rows).fill(NOWHERE);
  }

  /** Hold no cell. The columns are cleared by their owner. */
  clear(): void {
    this.#cells.clear();
    this.#shownFrom.fill(NOWHERE);
  }

  /** Apply a section. Nothing is changed unless all of it can be read. */
  apply(data: Uint8Array): void {
    const reader = new Reader(data);
    const cell = reader.varint();
    const mode = reader.byte();
    const held = this.#cells.get(cell);
    if (mode !== DELTA && mode !== KEYFRAME && mode !== GONE) throw new WireError(`cells have no mode ${mode}`);
    if (!held && mode !== KEYFRAME) throw new WireError(`cell ${cell} is not held`);
    if (mode === GONE) {
      reader.finish();
      this.#hide(cell, held?.keys() ?? []);
      this.#cells.delete(cell);
      return;
    }
    const { rows, left } = this.#changed(reader, mode === DELTA && held ? held : new Map());
    this.#hide(cell, mode === KEYFRAME ? (held?.keys() ?? []) : left);
    this.#cells.set(cell, rows);
    for (const [row, numbers] of rows) this.#show(cell, row, numbers);
  }

  /** The cell after the section, its rows ascending, and those that left it. */
  #changed(reader: Reader, before: Rows): { rows: Rows; left: number[] } {
    const left = reader.ids(this.#spec.rows);
    const came = reader.ids(this.#spec.rows);
    const after = new Map([...before].map(([row, numbers]): [number, number[]] => [row, [...numbers]]));
    for (const row of left) if (!after.delete(row)) throw new WireError(`row ${row} left a cell it was not in`);
    for (const row of came) {
      if (after.has(row)) throw new WireError(`row ${row} came to a cell it was in`);
      after.set(row, this.#spec.columns.map(() => 0));
    }
    const rows: Rows = came.length > 0 ? new Map([...after].sort(([one], [other]) => one - other)) : after;
    const ordered = [...rows.values()];
    for (const index of reader.mask(this.#spec.columns.length)) {
      const { kind } = this.#spec.columns[index] as ColumnSpec;
      for (const place of reader.mask(ordered.length)) (ordered[place] as number[])[index] = reader.number(kind);
    }
    reader.finish();
    return { rows, left };
  }

  #hide(cell: number, rows: Iterable<number>): void {
    for (const row of rows) {
      if (this.#shownFrom[row] !== cell) continue;
      this.#shownFrom[row] = NOWHERE;
      this.#write(row, []);
    }
  }

  #show(cell: number, row: number, numbers: readonly number[]): void {
    this.#shownFrom[row] = cell;
    this.#write(row, numbers);
  }

  #write(row: number, numbers: readonly number[]): void {
    this.#columns.forEach((column, index) => {
      column[row] = valueOf(this.#spec.columns[index] as ColumnSpec, numbers[index] ?? 0);
    });
  }
}
