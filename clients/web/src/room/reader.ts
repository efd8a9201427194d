// Reads the bytes of a section from front to back; whatever does not fit is a WireError.
import { ColumnKind } from "../gen/rallypoint/v1/room_pb";

/** What makes the bytes of a section or an input unreadable. */
export class WireError extends Error {
  override readonly name = "WireError";
}

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
const VARINT_BYTES = 5;

/** Bytes of one value of this kind. */
export function widthOf(kind: ColumnKind): number {
  const width = WIDTH[kind];
  if (!width) throw new WireError(`unknown column kind ${kind}`);
  return width;
}

/** One section's bytes. */
export class Reader {
  readonly #view: DataView;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  /** The set bits of a mask of `bits` bits, ascending. */
  mask(bits: number): number[] {
    const found: number[] = [];
    const at = this.#take(Math.ceil(bits / 8));
    for (let byte = 0; at + byte < this.#at; byte++) {
      const value = this.#view.getUint8(at + byte);
      for (let bit = 0; value >> bit; bit++) if ((value >> bit) & 1) found.push(byte * 8 + bit);
    }
    if (found.length > 0 && (found.at(-1) ?? 0) >= bits) throw new WireError("a set bit beyond the last row or column");
    return found;
  }

  /** The next stored number. */
  number(kind: ColumnKind): number {
    const at = this.#take(widthOf(kind));
    switch (kind) {
      case ColumnKind.U8:
      case ColumnKind.Q8:
        return this.#view.getUint8(at);
      case ColumnKind.U16:
      case ColumnKind.Q16:
        return this.#view.getUint16(at, true);
      case ColumnKind.U32:
        return this.#view.getUint32(at, true);
      case ColumnKind.I8:
        return this.#view.getInt8(at);
      case ColumnKind.I16:
        return this.#view.getInt16(at, true);
      case ColumnKind.I32:
        return this.#view.getInt32(at, true);
      default:
        return this.#view.getFloat32(at, true);
    }
  }

  byte(): number {
    return this.#view.getUint8(this.#take(1));
  }

  /** A number in base 128. */
  varint(): number {
    let value = 0;
    for (let place = 0; place < VARINT_BYTES; place++) {
      const octet = this.byte();
      value += (octet & 0x7f) * 128 ** place;
      if (octet < 0x80) return value;
    }
    throw new WireError("a number is too long");
  }

  /** Ascending rows of a table of `rows`, written as distances. */
  ids(rows: number): number[] {
    const count = this.varint();
    if (count > rows) throw new WireError(`${count} rows of ${rows}`);
    const found: number[] = [];
    for (let at = 0, last = 0; at < count; at++) {
      const step = this.varint();
      last += step;
      if (last >= rows || (at > 0 && step === 0)) throw new WireError("rows must ascend and be in the table");
      found.push(last);
    }
    return found;
  }

  /** Throws unless everything was read. */
  finish(): void {
    const left = this.#view.byteLength - this.#at;
    if (left > 0) throw new WireError(`a section has ${left} bytes too many`);
  }

  #take(size: number): number {
    const at = this.#at;
    if (at + size > this.#view.byteLength) throw new WireError("the section is short");
    this.#at += size;
    return at;
  }
}
