// Plays a timeline: where it stands, how fast it goes, and which frames a view is given for that.
import type { ReplayView } from "../page/game_view";
import { Tables } from "../room/columns";
import type { Timeline } from "./timeline";

/** The view gets frames this far ahead, so that it can draw between two. */
const AHEAD_MS = 60;
/** A longer jump forward is made without showing what is in between. */
const JUMP_MS = 1_000;
/** A live room is followed this far behind what has come: pieces of two seconds come at a time. */
const LIVE_BEHIND_MS = 2_500;
const LIVE_MOST_MS = 6_000;

export class Player {
  readonly #timeline: Timeline;
  readonly #view: ReplayView;
  readonly #live: boolean;
  #tables: Tables;
  /** The frame that the tables show. */
  #index = -1;
  /** The first one that the view was given since it forgot all. */
  #first = 0;
  #speed = 1;
  playing = true;
  atMs = 0;

  constructor(timeline: Timeline, view: ReplayView, options: { readonly live: boolean }) {
    this.#timeline = timeline;
    this.#view = view;
    this.#live = options.live;
    this.#tables = new Tables(timeline.head?.schema?.tables ?? []);
  }

  get speed(): number {
    return this.#speed;
  }

  set speed(value: number) {
    this.#speed = value;
  }

  /** Nothing is left to play. */
  get over(): boolean {
    return this.atMs >= this.#timeline.lengthMs && (this.#timeline.ended || !this.#live);
  }

  seek(atMs: number): void {
    this.atMs = Math.min(Math.max(0, atMs), this.#timeline.lengthMs);
    this.#show();
  }

  /** Let time pass and draw. */
  pass(elapsedMs: number, nowMs: number): void {
    if (this.playing) {
      if (this.#live && this.#timeline.lengthMs - this.atMs > LIVE_MOST_MS) this.atMs = this.#timeline.lengthMs - LIVE_BEHIND_MS;
      this.atMs = Math.min(this.atMs + elapsedMs * this.#speed, this.#timeline.lengthMs);
      if (this.over && this.#timeline.ended) this.playing = false;
    }
    this.#show();
    this.#view.draw(this.atMs, nowMs);
  }

  /** Give the view all frames up to now and one more. */
  #show(): void {
    const { frames } = this.#timeline;
    const wanted = Math.min(this.#timeline.indexAt(this.atMs + AHEAD_MS) + 1, frames.length - 1);
    const shown = Math.max(0, this.#timeline.indexAt(this.atMs));
    if (wanted === this.#index && shown >= this.#first) return;
    const from = frames[this.#index]?.atMs;
    const to = frames[wanted]?.atMs ?? 0;
    const back = wanted < this.#index || shown < this.#first;
    if (from === undefined || back || to - from > JUMP_MS * Math.max(1, this.#speed)) {
      // Of what is shown, not of what comes next: a keyframe may be between the two.
      this.#first = this.#timeline.keyframeBefore(shown);
      this.#index = this.#first - 1;
      this.#view.reset();
      this.#apply(wanted, true);
    } else {
      this.#apply(wanted, false);
    }
  }

  #apply(wanted: number, quiet: boolean): void {
    while (this.#index < wanted) {
      const frame = this.#timeline.frames[++this.#index];
      if (!frame) return;
      this.#tables.apply(frame.sections, frame.keyframe);
      this.#view.frame({ atMs: frame.atMs, tick: frame.tick, tables: this.#tables, events: quiet ? [] : frame.events });
    }
  }
}
