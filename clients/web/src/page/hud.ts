// The figures of the connection, refreshed four times a second.
import type { RoomStatistics } from "../room/stats";
import { element, say } from "./element";

export type HudFigures = RoomStatistics & { readonly predictionError: number | undefined };

const EVERY_MS = 250;

export class Hud {
  readonly element: HTMLElement;
  readonly #read: () => HudFigures;
  readonly #cells: Readonly<Record<"rtt" | "echo" | "tick" | "frames" | "kbit" | "error", HTMLElement>>;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(read: () => HudFigures) {
    this.#read = read;
    const cell = (): HTMLElement => element("dd", {}, "–");
    this.#cells = { rtt: cell(), echo: cell(), tick: cell(), frames: cell(), kbit: cell(), error: cell() };
    this.element = element(
      "dl",
      { class: "hud", "aria-label": "Connection" },
      row("Round trip", "from a call to its answer", this.#cells.rtt),
      row("Echo", "from a key to its effect on the server", this.#cells.echo),
      row("Tick", "the newest state's number", this.#cells.tick),
      row("Frames", "received per second; SLOW: half of them, as the connection lags", this.#cells.frames),
      row("kbit/s", "received and sent", this.#cells.kbit),
      row("Prediction", "how far the last frame moved you", this.#cells.error),
    );
    this.#timer = setInterval(() => this.#refresh(), EVERY_MS);
  }

  dispose(): void {
    clearInterval(this.#timer);
  }

  #refresh(): void {
    const figures = this.#read();
    say(this.#cells.rtt, milliseconds(figures.rttMs));
    say(this.#cells.echo, milliseconds(figures.echoMs));
    say(this.#cells.tick, String(figures.tick));
    say(this.#cells.frames, `${figures.framesPerSecond.toFixed(0)}${figures.slow ? " SLOW" : ""}`);
    say(this.#cells.kbit, `${figures.kbitDown.toFixed(0)} ↓ ${figures.kbitUp.toFixed(0)} ↑`);
    const error = figures.predictionError;
    say(this.#cells.error, error === undefined ? "–" : error.toFixed(2));
  }
}

function row(label: string, meaning: string, value: HTMLElement): HTMLElement {
  return element("div", { title: meaning }, element("dt", {}, label), value);
}

function milliseconds(ms: number): string {
  return Number.isNaN(ms) ? "–" : `${ms.toFixed(0)} ms`;
}
