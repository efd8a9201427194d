// Full-jitter back-off: wait a random time below a bound that doubles with every failure.

export interface BackoffOptions {
  readonly leastMs?: number;
  readonly mostMs?: number;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

export class Backoff {
  readonly #leastMs: number;
  readonly #mostMs: number;
  readonly #random: () => number;
  #failures = 0;

  constructor(options: BackoffOptions = {}) {
    this.#leastMs = options.leastMs ?? 250;
    this.#mostMs = options.mostMs ?? 8_000;
    this.#random = options.random ?? Math.random;
  }

  get failures(): number {
    return this.#failures;
  }

  /** Forget all failures: something worked. */
  reset(): void {
    this.#failures = 0;
  }

  /** How long to wait now. `atLeastMs` is what the server asked for. */
  next(atLeastMs = 0): number {
    const bound = Math.min(this.#mostMs, this.#leastMs * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    return atLeastMs + this.#random() * bound;
  }
}

/** Wait, at most `ms`; ends early when the signal is aborted or the browser is online again. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      globalThis.removeEventListener?.("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) return done();
    signal?.addEventListener("abort", done, { once: true });
    globalThis.addEventListener?.("online", done, { once: true });
    return undefined;
  });
}
