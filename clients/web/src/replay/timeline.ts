// A recording as a line in time (docs/replay.md): chunks go in, frames and marks with their places come
// out. Nothing here waits, draws or fetches; `services/rallypoint/client/replay.py` is its twin.
import { ReplayStart } from "../gen/rallypoint/v1/replay_pb";
import type { ReplayChunk, ReplayHead } from "../gen/rallypoint/v1/replay_pb";
import { ControlKind } from "../gen/rallypoint/v1/room_pb";
import type { MatchResult, SeatInfo, Section } from "../gen/rallypoint/v1/room_pb";
import type { GameEvent } from "../room/connection";

export interface RecordedFrame {
  /** Where it stands, in ms from the beginning. */
  readonly atMs: number;
  readonly tick: number;
  readonly keyframe: boolean;
  readonly sections: readonly Section[];
  /** New ones only. */
  readonly events: readonly GameEvent[];
}

export type MarkKind = "moved" | "recovered" | "gap" | "full";

export interface Mark {
  readonly kind: MarkKind;
  readonly atMs: number;
  readonly lostMs: number;
}

export class Timeline {
  readonly frames: RecordedFrame[] = [];
  readonly marks: Mark[] = [];
  /** Everybody who has or had a seat; a seat that was given again names the newest. */
  readonly seats = new Map<number, SeatInfo>();
  head: ReplayHead | undefined;
  ended = false;
  reason = "";
  result: MatchResult | undefined;
  #epoch = 0n;
  #number = -1;
  #zeroMs: number | undefined;
  #endMs = 0;
  #lastEvent = 0;

  get lengthMs(): number {
    return this.#endMs;
  }

  /** Take the next chunk; one of a lower epoch, or one that was taken, changes nothing. */
  add(chunk: ReplayChunk): void {
    const { head } = chunk;
    if (!head || chunk.epoch < this.#epoch || (chunk.epoch === this.#epoch && chunk.number <= this.#number)) return;
    this.head = head;
    for (const seat of head.seats) this.seats.set(seat.slot, seat);
    const beganMs = Number(chunk.beginTime?.seconds ?? 0n) * 1000 + (chunk.beginTime?.nanos ?? 0) / 1e6;
    this.#zeroMs ??= beganMs;
    const atMs = Math.max(this.#endMs, beganMs - this.#zeroMs);
    if (this.#number >= 0) this.#mark(chunk, atMs);
    this.#epoch = chunk.epoch;
    this.#number = chunk.number;
    this.#take(chunk, head, atMs);
    this.ended ||= chunk.last;
    if (chunk.full) this.marks.push({ kind: "full", atMs: this.#endMs, lostMs: 0 });
  }

  /** The place of the newest frame at or before a moment; -1 before the first one. */
  indexAt(atMs: number): number {
    let [low, high] = [0, this.frames.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.frames[middle]?.atMs ?? 0) <= atMs) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The keyframe that a frame can be reached from. */
  keyframeBefore(index: number): number {
    let at = index;
    while (at > 0 && !this.frames[at]?.keyframe) at--;
    return Math.max(0, at);
  }

  #mark(chunk: ReplayChunk, atMs: number): void {
    const lostMs = Math.max(0, atMs - this.#endMs);
    const follows = chunk.number === (chunk.epoch === this.#epoch ? this.#number + 1 : 0);
    if (chunk.start === ReplayStart.RECOVERED) this.marks.push({ kind: "recovered", atMs, lostMs });
    else if (chunk.epoch !== this.#epoch) this.marks.push({ kind: "moved", atMs, lostMs });
    if (!follows) this.marks.push({ kind: "gap", atMs, lostMs });
  }

  #take(chunk: ReplayChunk, head: ReplayHead, atMs: number): void {
    const tickMs = 1000 / Math.max(1, head.tickHz);
    let nowMs = atMs;
    for (const { kind } of chunk.entries) {
      if (kind.case === "frame") {
        const { tick, baseTick, sections, events } = kind.value;
        nowMs = atMs + Math.max(0, tick - chunk.firstTick) * tickMs;
        const fresh = events.filter((event) => event.id > this.#lastEvent);
        this.#lastEvent = fresh.at(-1)?.id ?? this.#lastEvent;
        this.frames.push({ atMs: nowMs, tick, keyframe: baseTick === 0, sections, events: fresh });
      } else if (kind.case === "control") {
        const { seat, result, reason } = kind.value;
        if (seat) this.seats.set(seat.slot, seat);
        if (kind.value.kind === ControlKind.CLOSED) [this.result, this.reason] = [result, reason];
      }
    }
    this.#endMs = nowMs + tickMs;
  }
}
