// When to send inputs: shortly before the tick that applies them, whatever the way's length.
//
// An input that comes too late for a tick waits for the next, so its margin says how far from the
// best moment it was sent. The clock turns slowly toward it; how early it aims depends on how much
// margins differ from each other, and is at most one tick.

const LEAST_MARGIN_MS = 8;
const JITTERS = 2.5;
const GAIN = 0.3;
/** By how much one input may be moved against the one before: nobody feels that. */
const MOST_SHIFT_MS = 2;

export class SendClock {
  readonly #tickMs: number;
  #jitterMs = 0;
  #beforeMs: number | undefined;
  #owedMs = 0;

  constructor(tickMs: number) {
    this.#tickMs = tickMs;
  }

  /** The margin that it goes for. */
  get aimMs(): number {
    return Math.min(this.#tickMs, LEAST_MARGIN_MS + JITTERS * this.#jitterMs);
  }

  /** Take the margin of an input, about once a second. */
  observe(marginMs: number): void {
    if (this.#beforeMs !== undefined) {
      const apart = Math.abs(this.#wrapped(marginMs - this.#beforeMs));
      this.#jitterMs += (apart - this.#jitterMs) * GAIN;
    }
    this.#beforeMs = marginMs;
    this.#owedMs = this.#wrapped(marginMs - this.aimMs) * GAIN;
  }

  /** How much later than planned the next input should be sent; below 0: earlier. */
  shiftMs(): number {
    const shift = Math.max(-MOST_SHIFT_MS, Math.min(MOST_SHIFT_MS, this.#owedMs));
    this.#owedMs -= shift;
    return shift;
  }

  /** The short way: margins go round with the ticks. */
  #wrapped(apartMs: number): number {
    const half = this.#tickMs / 2;
    return ((((apartMs + half) % this.#tickMs) + this.#tickMs) % this.#tickMs) - half;
  }
}
