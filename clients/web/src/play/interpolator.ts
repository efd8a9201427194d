// Others are drawn a little in the past, between two states that have both arrived.
//
// Time here is the server's: ticks. The clock runs smoothly at the tick rate and is nudged toward
// the newest arrival, so that jitter of the network does not show. A server that sends fewer frames
// (to a slow connection) is followed further back, so that there are two states to draw between.

export interface InterpolatorOptions {
  readonly tickHz: number;
  /** How far in the past to draw, while states come often. */
  readonly delayMs?: number;
}

/** Between two states. */
export interface Moment<State> {
  /** The server's time, in ticks and parts of ticks. */
  readonly tick: number;
  readonly from: State;
  readonly to: State;
  readonly mix: number;
}

const DELAY_MS = 100;
const KEPT = 32;
/** Beyond this the clock jumps instead of slewing: a reload, a sleep, a long gap. */
const JUMP_MS = 400;
const SLEW = 0.08;
/** States further apart than this are a gap, not a rate. */
const MOST_APART_MS = 250;

export class Interpolator<State> {
  readonly #tickMs: number;
  readonly #leastDelayMs: number;
  #delayMs: number;
  #states: { readonly tick: number; readonly state: State }[] = [];
  /** performance.now() at which tick 0 would have arrived. */
  #originMs: number | undefined;

  constructor(options: InterpolatorOptions) {
    this.#tickMs = 1000 / options.tickHz;
    this.#leastDelayMs = this.#delayMs = options.delayMs ?? DELAY_MS;
  }

  /** How far in the past others are drawn now. */
  get delayMs(): number {
    return this.#delayMs;
  }

  /** Take the state of a tick, as it arrives. A tick that goes back starts anew. */
  push(tick: number, state: State, atMs: number): void {
    const newest = this.#states.at(-1);
    if (newest && tick <= newest.tick) this.reset();
    else if (newest) this.#keepBehind((tick - newest.tick) * this.#tickMs);
    this.#states.push({ tick, state });
    if (this.#states.length > KEPT) this.#states.shift();
    const origin = atMs - tick * this.#tickMs;
    const off = this.#originMs === undefined ? Number.POSITIVE_INFINITY : origin - this.#originMs;
    if (Math.abs(off) > JUMP_MS) this.#originMs = origin;
    else if (this.#originMs !== undefined) this.#originMs += off * SLEW;
  }

  /** Two states' distance is enough, whichever of them is late. */
  #keepBehind(apartMs: number): void {
    const wantedMs = Math.max(this.#leastDelayMs, 2 * Math.min(apartMs, MOST_APART_MS));
    this.#delayMs += (wantedMs - this.#delayMs) * SLEW;
  }

  reset(): void {
    this.#states = [];
    this.#originMs = undefined;
  }

  /** The two states around the drawn moment and the place between them, 0 to 1. */
  at(nowMs: number, delayMs = this.#delayMs): Moment<State> | undefined {
    const first = this.#states[0];
    const last = this.#states.at(-1);
    if (!first || !last || this.#originMs === undefined) return undefined;
    const tick = (nowMs - delayMs - this.#originMs) / this.#tickMs;
    if (tick >= last.tick) return { tick, from: last.state, to: last.state, mix: 1 };
    const next = this.#states.findIndex((item) => item.tick > tick);
    const to = this.#states[next] ?? last;
    const from = this.#states[next - 1] ?? first;
    const span = to.tick - from.tick;
    return { tick, from: from.state, to: to.state, mix: span > 0 ? Math.max(0, (tick - from.tick) / span) : 1 };
  }
}

/** Between two numbers. */
export function mixed(from: number, to: number, mix: number): number {
  return from + (to - from) * mix;
}

/** Between two angles, the short way round. */
export function mixedAngle(from: number, to: number, mix: number): number {
  const turn = ((to - from + Math.PI) % (2 * Math.PI) + 2 * Math.PI) % (2 * Math.PI) - Math.PI;
  return from + turn * mix;
}
