// Inputs on their way: numbered, kept until the `ack` column says they were applied, at most 8.

export const MOST_UNACKED = 8;

export class Outbox {
  #pending: { readonly seq: number; readonly bytes: Uint8Array }[] = [];
  #newest = 0;
  #acked = 0;

  /** The seq of the newest input made. */
  get newest(): number {
    return this.#newest;
  }

  /** The seq of the newest input known to be applied. */
  get acked(): number {
    return this.#acked;
  }

  /** The seq of the first unacknowledged input, and their bytes, oldest first. */
  get unacked(): { readonly firstSeq: number; readonly inputs: readonly Uint8Array[] } {
    return {
      firstSeq: this.#pending[0]?.seq ?? this.#newest + 1,
      inputs: this.#pending.map((input) => input.bytes),
    };
  }

  /** Add an input; the oldest is given up when there are more than 8. */
  add(bytes: Uint8Array): number {
    this.#newest += 1;
    this.#pending.push({ seq: this.#newest, bytes });
    if (this.#pending.length > MOST_UNACKED) this.#pending.shift();
    return this.#newest;
  }

  /** A welcome tells the newest applied seq in full; go on after it. */
  resume(applied: number): void {
    this.#newest = Math.max(this.#newest, applied);
    this.#take(applied);
  }

  /** Take the low 16 bits of the newest applied seq; returns it in full. */
  acknowledge(low16: number): number {
    const forward = (low16 - this.#acked) & 0xffff;
    if (forward !== 0 && forward < 0x8000) this.#take(this.#acked + forward);
    return this.#acked;
  }

  #take(seq: number): void {
    this.#acked = Math.max(this.#acked, seq);
    this.#pending = this.#pending.filter((input) => input.seq > this.#acked);
  }
}
