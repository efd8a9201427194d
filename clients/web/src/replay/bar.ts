// The bar under the picture: play, seek, speed, and where something happened to the room.
import { drawing, element, refill, say } from "../page/element";
import type { Player } from "./player";
import type { Mark, MarkKind, Timeline } from "./timeline";

const PLAY = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 4.5v15l13-7.5z" fill="currentColor"/></svg>`;
const PAUSE = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 4.5h4.4v15H6zM13.6 4.5H18v15h-4.4z" fill="currentColor"/></svg>`;
const AGAIN = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 5V1.8L6.6 6.4 12 11V7.8a5.1 5.1 0 1 1-5.1 5.1H4.1A7.9 7.9 0 1 0 12 5z" fill="currentColor"/></svg>`;
const SPEEDS = [0.25, 0.5, 1, 2, 4, 8] as const;
const STEP_MS = 5_000;
const WORDS: Readonly<Record<MarkKind, string>> = {
  moved: "The room moved to another server",
  recovered: "The server died; the match went on from its last save",
  gap: "A piece is missing here",
  full: "The recording stops here; only the end follows",
};

export class Bar {
  readonly element: HTMLElement;
  readonly #player: Player;
  readonly #timeline: Timeline;
  readonly #toggle = element("button", { class: "round", type: "button", click: () => this.toggle() });
  readonly #range = element("input", { type: "range", class: "seek", min: 0, max: 1, step: 50, "aria-label": "Place in the match" });
  readonly #clock = element("span", { class: "clock" });
  readonly #speed = element("button", { class: "speed", type: "button", title: "Speed", click: () => this.#faster() });
  readonly #marks = element("div", { class: "marks" });
  readonly #news = element("p", { class: "news", role: "status" });
  #shownMarks = -1;
  #shownState = "";
  #saidMark: Mark | undefined;
  #held = false;

  constructor(player: Player, timeline: Timeline, live: boolean) {
    this.#player = player;
    this.#timeline = timeline;
    this.#range.addEventListener("input", () => player.seek(Number(this.#range.value)));
    this.#range.addEventListener("pointerdown", () => (this.#held = player.playing));
    this.#range.addEventListener("pointerdown", () => (player.playing = false));
    this.#range.addEventListener("pointerup", () => (player.playing = this.#held));
    const by = (ms: number) => (): void => player.seek(player.atMs + ms);
    this.element = element(
      "div",
      { class: "bar", role: "group", "aria-label": "Replay" },
      this.#toggle,
      !live && element("button", { class: "skip", type: "button", "aria-label": "Back five seconds", click: by(-STEP_MS) }, "−5"),
      !live && element("button", { class: "skip", type: "button", "aria-label": "Forward five seconds", click: by(STEP_MS) }, "+5"),
      element("div", { class: "track" }, this.#range, this.#marks),
      this.#clock,
      !live && this.#speed,
      this.#news,
    );
  }

  toggle(): void {
    if (this.#player.over) this.#player.seek(0);
    this.#player.playing = !this.#player.playing;
  }

  /** What a key does; true if it does something. */
  key(key: string): boolean {
    const { atMs } = this.#player;
    if (key === " " || key === "k") this.toggle();
    else if (key === "ArrowLeft" || key === "j") this.#player.seek(atMs - STEP_MS);
    else if (key === "ArrowRight" || key === "l") this.#player.seek(atMs + STEP_MS);
    else if (key === "Home") this.#player.seek(0);
    else if (key === "End") this.#player.seek(this.#timeline.lengthMs);
    else if (key === ">" || key === "ArrowUp") this.#faster(1);
    else if (key === "<" || key === "ArrowDown") this.#faster(-1);
    else return false;
    return true;
  }

  refresh(): void {
    const { atMs, playing, over, speed } = this.#player;
    const { lengthMs, marks } = this.#timeline;
    this.#range.max = String(Math.max(1, Math.ceil(lengthMs)));
    if (document.activeElement !== this.#range || playing) this.#range.value = String(atMs);
    this.#range.style.setProperty("--done", `${(100 * atMs) / Math.max(1, lengthMs)}%`);
    this.#range.setAttribute("aria-valuetext", time(atMs));
    say(this.#clock, `${time(atMs)} / ${time(lengthMs)}`);
    say(this.#speed, `${speed}×`);
    const state = over && !playing ? "over" : playing ? "playing" : "paused";
    if (state !== this.#shownState) {
      refill(this.#toggle, drawing(state === "over" ? AGAIN : playing ? PAUSE : PLAY));
      this.#toggle.setAttribute("aria-label", state === "over" ? "Play again" : playing ? "Pause" : "Play");
      this.element.dataset["state"] = this.#shownState = state;
    }
    this.#showMarks(marks, lengthMs);
    const near = marks.findLast((mark) => mark.atMs <= atMs && atMs - mark.atMs < 4_000);
    if (near !== this.#saidMark) say(this.#news, near ? WORDS[near.kind] + missing(near) : "");
    this.#saidMark = near;
  }

  #showMarks(marks: readonly Mark[], lengthMs: number): void {
    const shown = marks.length * 1e9 + lengthMs;
    if (shown === this.#shownMarks) return;
    this.#shownMarks = shown;
    refill(
      this.#marks,
      ...marks.map((mark) => element("i", { class: mark.kind, style: `--at:${(100 * mark.atMs) / Math.max(1, lengthMs)}%`, title: WORDS[mark.kind] + missing(mark) })),
    );
  }

  #faster(by = 1): void {
    const at = SPEEDS.indexOf(this.#player.speed as (typeof SPEEDS)[number]);
    const next = by === 1 && at === SPEEDS.length - 1 ? 0 : Math.max(0, at + by);
    this.#player.speed = SPEEDS[next] ?? 1;
  }
}

function missing(mark: Mark): string {
  return mark.lostMs >= 100 ? `: ${(mark.lostMs / 1000).toFixed(1)} s` : "";
}

export function time(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
