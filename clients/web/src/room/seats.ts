// The seat this tab holds, kept in sessionStorage: a reload resumes it, another tab does not share it.
import { fromBase64, toBase64 } from "../session/encoding";
import type { KeyValueStore } from "../session/store";

export interface Seat {
  readonly roomId: string;
  /** The newest seat token first, then the one before it: either may open the seat. */
  readonly tokens: readonly Uint8Array[];
  /** The request id of the next message; unique within a room, also across reloads. */
  readonly nextRequestId: number;
  /** What others enter the room by, when it has a code. */
  readonly code?: string;
}

const KEPT_TOKENS = 2;

export class SeatStore {
  readonly #storage: KeyValueStore;
  readonly #key: string;

  constructor(storage: KeyValueStore, key = "rallypoint.seat") {
    this.#storage = storage;
    this.#key = key;
  }

  load(): Seat | undefined {
    const text = this.#storage.getItem(this.#key);
    if (text === null) return undefined;
    try {
      const kept = JSON.parse(text) as Omit<Seat, "tokens"> & { tokens: string[] };
      return { ...kept, tokens: kept.tokens.map(fromBase64) };
    } catch {
      return undefined;
    }
  }

  save(seat: Seat): Seat {
    const tokens = seat.tokens.map(toBase64);
    this.#storage.setItem(this.#key, JSON.stringify({ ...seat, tokens }));
    return seat;
  }

  clear(): void {
    this.#storage.removeItem(this.#key);
  }
}

/** The seat after a welcome brought a new token; without one those held stay good. */
export function withToken(seat: Seat, token: Uint8Array): Seat {
  if (token.length === 0) return seat;
  const older = seat.tokens.filter((held) => toBase64(held) !== toBase64(token));
  return { ...seat, tokens: [token, ...older].slice(0, KEPT_TOKENS) };
}
