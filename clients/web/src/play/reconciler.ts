// Prediction: own inputs take effect at once; every frame of the server corrects the past.
//
// The game gives a pure step. After a frame the inputs it does not contain yet are replayed on its
// state. What the correction moves on the screen is kept as an offset that decays in about 65 ms.

export interface Prediction<State, Input> {
  /** The next state, by one input. Must not change its arguments. */
  step(state: State, input: Input): State;
  /** What is drawn and must not jump: some numbers of the state, always in this order. */
  visible(state: State): readonly number[];
  /** A correction longer than this is a teleport (a respawn) and is shown at once. */
  readonly snapDistance: number;
  /** Time in which an error falls to 1/e. */
  readonly decayMs?: number;
}

const DECAY_MS = 65;
const MOST_REPLAYED = 64;
/** Falls to a tenth within 20 frames. */
const RECENT = 0.891;

export class Reconciler<State, Input> {
  readonly #game: Prediction<State, Input>;
  #state: State | undefined;
  #from: readonly number[] = [];
  #pending: { readonly seq: number; readonly input: Input }[] = [];
  #offset: number[] = [];
  #error = 0;
  #recentError = 0;

  constructor(game: Prediction<State, Input>) {
    this.#game = game;
  }

  /** The predicted state, undefined before the first frame. */
  get state(): State | undefined {
    return this.#state;
  }

  /** How far the last frame moved the prediction. */
  get error(): number {
    return this.#error;
  }

  /** The same, as the largest of about the last second of frames. */
  get recentError(): number {
    return this.#recentError;
  }

  get pending(): number {
    return this.#pending.length;
  }

  /** Take an own input, at once. */
  apply(seq: number, input: Input): void {
    this.#pending.push({ seq, input });
    if (this.#pending.length > MOST_REPLAYED) this.#pending.shift();
    if (this.#state === undefined) return;
    this.#from = this.#game.visible(this.#state);
    this.#state = this.#game.step(this.#state, input);
  }

  /** Take the server's state, which contains all inputs up to `ackSeq`. */
  reconcile(state: State, ackSeq: number): void {
    const predicted = this.#state;
    this.#pending = this.#pending.filter((item) => item.seq > ackSeq);
    let replayed = state;
    let from: readonly number[] | undefined;
    for (const { input } of this.#pending) {
      from = this.#game.visible(replayed);
      replayed = this.#game.step(replayed, input);
    }
    this.#state = replayed;
    const now = this.#game.visible(replayed);
    const moved = predicted === undefined ? now.map(() => 0) : differences(this.#game.visible(predicted), now);
    // Without inputs under way there is no last step to draw along: the drawn one moves as a whole.
    this.#from = from ?? (predicted === undefined ? now : differences(this.#from, moved));
    this.#absorb(moved);
  }

  /** What to draw: `mix` of the way from the state before the last input, plus the decaying error. */
  view(mix: number): number[] {
    if (this.#state === undefined) return [];
    const to = this.#game.visible(this.#state);
    return to.map((value, at) => {
      const from = this.#from[at] ?? value;
      return from + (value - from) * mix + (this.#offset[at] ?? 0);
    });
  }

  /** Forget everything but the server's word: after a reconnect. */
  reset(): void {
    this.#state = undefined;
    this.#from = [];
    this.#pending = [];
    this.#offset = [];
    this.#error = 0;
    this.#recentError = 0;
  }

  /** Let the shown error decay; call once per picture. */
  decay(elapsedMs: number): void {
    const kept = Math.exp(-elapsedMs / (this.#game.decayMs ?? DECAY_MS));
    this.#offset = this.#offset.map((value) => value * kept);
  }

  #absorb(moved: readonly number[]): void {
    this.#error = Math.hypot(...moved);
    this.#recentError = Math.max(this.#error, this.#recentError * RECENT);
    const held = moved.map((value, at) => value + (this.#offset[at] ?? 0));
    this.#offset = this.#error > this.#game.snapDistance ? moved.map(() => 0) : held;
  }
}

function differences(left: readonly number[], right: readonly number[]): number[] {
  return left.map((value, at) => value - (right[at] ?? 0));
}
