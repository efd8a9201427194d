// What is told in words over the arena: clock, scores, the feed, one's health.
import { element, refill, say } from "../element";
import { colorOf } from "../game_view";
import { MAX_HEALTH } from "./rules";
import type { Player } from "./world";

const FEED_MS = 5_000;
const MOST_LINES = 2;
/** From here on the clock asks for attention. */
const LAST_SECONDS = 10;

export class Overlay {
  readonly element: HTMLElement;
  readonly #clock = element("span", { class: "time", role: "timer", "aria-label": "Time left" }, "–:––");
  readonly #scores = element("ol", { class: "scores", "aria-label": "Scores" });
  readonly #feed = element("ul", { class: "feed", role: "log", "aria-live": "polite", "aria-label": "What happened" });
  readonly #health = element("div", { class: "health", role: "meter", "aria-label": "Health", "aria-valuemin": 0, "aria-valuemax": MAX_HEALTH });
  readonly #bar = element("i");
  readonly #points = element("span", {}, "");
  readonly #down = element("div", { class: "down", hidden: true });
  readonly #hint = element("p", { class: "hint" });
  #shownScores = "";

  constructor(touch: boolean) {
    this.#health.append(this.#bar, this.#points);
    say(this.#hint, touch ? "Left thumb moves. Right thumb fires: tap for the nearest, drag to aim." : "WASD or arrows to move · mouse to aim · click or space to fire");
    this.element = element("div", { class: "overlay" }, this.#clock, this.#scores, this.#feed, this.#down, this.#health, this.#hint);
  }

  time(seconds: number): void {
    const left = Math.max(0, Math.ceil(seconds));
    this.#clock.classList.toggle("soon", left <= LAST_SECONDS);
    say(this.#clock, `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`);
  }

  scores(players: readonly Player[], self: number, names: (slot: number) => string): void {
    const seated = players.filter((player) => player.seated);
    const sorted = seated.toSorted((a, b) => b.score - a.score || a.deaths - b.deaths || a.slot - b.slot);
    const key = sorted.map((player) => `${player.slot}:${player.score}:${player.away}:${names(player.slot)}`).join("|");
    if (key === this.#shownScores) return;
    this.#shownScores = key;
    const rows = sorted.map((player) =>
      element(
        "li",
        { class: `${player.slot === self ? "self" : ""} ${player.away ? "away" : ""}`, style: `--seat:${colorOf(player.slot)}` },
        element("span", { class: "who" }, names(player.slot), player.away && element("small", {}, " away")),
        element("span", { class: "score" }, String(player.score)),
      ),
    );
    refill(this.#scores, ...rows);
  }

  health(points: number): void {
    this.#health.setAttribute("aria-valuenow", String(points));
    this.#health.dataset["level"] = points > 60 ? "well" : points > 30 ? "hurt" : "low";
    this.#bar.style.width = `${(100 * points) / MAX_HEALTH}%`;
    say(this.#points, points > 0 ? `${points} health` : "Down");
  }

  down(seconds: number | undefined, by: string): void {
    this.#down.hidden = seconds === undefined;
    if (seconds === undefined) return;
    say(this.#down, `${by ? `${by} got you. ` : ""}Back in ${Math.max(0, seconds).toFixed(1)} s`);
  }

  news(...parts: readonly (Node | string)[]): void {
    const line = element("li", {}, ...parts);
    this.#feed.append(line);
    while (this.#feed.children.length > MOST_LINES) this.#feed.firstElementChild?.remove();
    setTimeout(() => line.remove(), FEED_MS);
  }

  /** The first input was made: the hint has done its work. */
  understood(): void {
    this.#hint.classList.add("gone");
  }
}

export function chip(slot: number, name: string): HTMLElement {
  return element("b", { style: `--seat:${colorOf(slot)}` }, name);
}
