// Which frames may be applied: epochs never go back, a delta fits only the state it was made against.

export interface FrameHead {
  readonly epoch: bigint;
  readonly tick: number;
  /** 0: a keyframe. */
  readonly baseTick: number;
  readonly events: readonly { readonly id: number }[];
}

/** `apply` it, `ignore` it, or give up this stream and `rejoin`. */
export type Verdict = "apply" | "ignore" | "rejoin";

export class FrameGate {
  #epoch = 0n;
  #tick: number | undefined;
  #newestEvent = 0;

  get epoch(): bigint {
    return this.#epoch;
  }

  /** A new stream begins with a keyframe, whatever is held. False: its epoch is of the past. */
  begin(epoch: bigint): boolean {
    this.#tick = undefined;
    return epoch >= this.#epoch;
  }

  judge(frame: FrameHead): Verdict {
    if (frame.epoch < this.#epoch) return "ignore";
    const keyframe = frame.baseTick === 0;
    if (keyframe) return "apply";
    return frame.epoch === this.#epoch && frame.baseTick === this.#tick ? "apply" : "rejoin";
  }

  /** Note an applied frame; returns its events that were not seen before. */
  applied<E extends { readonly id: number }>(frame: Omit<FrameHead, "events"> & { readonly events: readonly E[] }): E[] {
    const fresh = frame.events.filter((event) => event.id > this.#newestEvent);
    const newest = frame.events.reduce((most, event) => Math.max(most, event.id), 0);
    // A room that was recovered from a snapshot counts on from there, perhaps below what we saw.
    const recovered = frame.epoch > this.#epoch;
    this.#newestEvent = recovered && newest > 0 ? newest : Math.max(this.#newestEvent, newest);
    this.#epoch = frame.epoch;
    this.#tick = frame.tick;
    return fresh;
  }
}
