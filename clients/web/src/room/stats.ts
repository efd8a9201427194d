// What a player wants to see when it lags: round trip, input echo, traffic, loss of the stream.

/** A smoothed figure: an exponential mean over about `window` samples. */
export class Smoothed {
  readonly #weight: number;
  #value = Number.NaN;

  constructor(window = 8) {
    this.#weight = 2 / (window + 1);
  }

  /** NaN before the first sample. */
  get value(): number {
    return this.#value;
  }

  add(sample: number): void {
    this.#value = Number.isNaN(this.#value) ? sample : this.#value + (sample - this.#value) * this.#weight;
  }
}

/** Amounts per second over a sliding window. */
export class Rate {
  readonly #windowMs: number;
  #samples: { readonly atMs: number; readonly amount: number }[] = [];

  constructor(windowMs = 2_000) {
    this.#windowMs = windowMs;
  }

  add(amount: number, nowMs: number): void {
    this.#samples.push({ atMs: nowMs, amount });
    this.#trim(nowMs);
  }

  perSecond(nowMs: number): number {
    this.#trim(nowMs);
    const total = this.#samples.reduce((sum, sample) => sum + sample.amount, 0);
    return (total * 1000) / this.#windowMs;
  }

  #trim(nowMs: number): void {
    const from = this.#samples.findIndex((sample) => sample.atMs > nowMs - this.#windowMs);
    this.#samples = from < 0 ? [] : this.#samples.slice(from);
  }
}

export interface RoomStatistics {
  /** A unary call to the gateway and back, in ms; NaN while unknown. */
  readonly rttMs: number;
  /** From making an input to seeing it applied, in ms; NaN while unknown. */
  readonly echoMs: number;
  readonly tick: number;
  readonly framesPerSecond: number;
  readonly kbitDown: number;
  readonly kbitUp: number;
  /** Streams opened again since the connection was made. */
  readonly reconnects: number;
  readonly unacked: number;
  /** The server sends every other frame only, because this client lags. */
  readonly slow: boolean;
  /** How long before they had to leave for their tick inputs came to the server, in ms; NaN while unknown. */
  readonly marginMs: number;
}

export class Meter {
  readonly #rtt = new Smoothed();
  readonly #echo = new Smoothed();
  readonly #frames = new Rate();
  readonly #down = new Rate();
  readonly #up = new Rate();
  readonly #made = new Map<number, number>();

  traffic(received: number, sent: number, nowMs: number): void {
    if (received > 0) this.#down.add(received, nowMs);
    if (sent > 0) this.#up.add(sent, nowMs);
  }

  frame(nowMs: number): void {
    this.#frames.add(1, nowMs);
  }

  roundTrip(ms: number): void {
    this.#rtt.add(ms);
  }

  inputMade(seq: number, nowMs: number): void {
    this.#made.set(seq, nowMs);
  }

  inputApplied(upTo: number, nowMs: number): void {
    const at = this.#made.get(upTo);
    if (at !== undefined) this.#echo.add(nowMs - at);
    for (const seq of this.#made.keys()) if (seq <= upTo) this.#made.delete(seq);
  }

  statistics(more: Pick<RoomStatistics, "tick" | "reconnects" | "unacked" | "slow" | "marginMs">, nowMs: number): RoomStatistics {
    return {
      ...more,
      rttMs: this.#rtt.value,
      echoMs: this.#echo.value,
      framesPerSecond: this.#frames.perSecond(nowMs),
      kbitDown: (this.#down.perSecond(nowMs) * 8) / 1000,
      kbitUp: (this.#up.perSecond(nowMs) * 8) / 1000,
    };
  }
}
