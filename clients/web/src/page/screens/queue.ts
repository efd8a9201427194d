// The queue: place, estimated wait, how far the search reaches, who was found.
import type { MatchedPlayer, QueueProgress } from "../../gen/rallypoint/v1/matchmaking_pb";
import type { SearchEvent } from "../../match/find";
import type { Offer } from "../catalog";
import { element, refill, say } from "../element";
import { colorOf } from "../game_view";
import { wordmark } from "./home";

/** The seat waits; the game begins for a player when they come. */
const FOUND_MS = 1_100;

export class QueueScreen {
  readonly element: HTMLElement;
  readonly #status = element("h1", { tabindex: -1, "data-focus": true }, "Joining the queue…");
  readonly #spoken = element("p", { class: "sr-only", role: "status", "aria-live": "polite" });
  readonly #hint = element("p", { class: "lead" }, "Opening your session.");
  readonly #position = element("dd", {}, "–");
  readonly #wait = element("dd", {}, "–");
  readonly #range = element("dd", {}, "–");
  readonly #searching = element("dd", {}, "–");
  readonly #found = element("ul", { class: "found", "aria-label": "Players found" });
  readonly #clock = element("span", { class: "clock" }, "0:00");
  readonly #cancel: HTMLButtonElement;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #startedMs = Date.now();
  #foundMs = 0;

  constructor(offer: Offer, onCancel: () => void) {
    this.#cancel = element("button", { class: "button", type: "button", click: onCancel }, "Leave the queue");
    this.element = element(
      "main",
      { class: "screen queue", "data-phase": "joining" },
      wordmark(),
      element(
        "section",
        { class: "panel" },
        element("div", { class: "radar", "aria-hidden": "true" }, element("i"), element("i"), element("i"), element("b"), this.#clock),
        element("p", { class: "eyebrow" }, offer.title),
        this.#status,
        this.#hint,
        this.#spoken,
        element(
          "dl",
          { class: "figures" },
          figure("Place", this.#position),
          figure("Estimated wait", this.#wait),
          figure("Rating range", this.#range),
          figure("Searching", this.#searching),
        ),
        this.#found,
        element("div", { class: "actions" }, this.#cancel),
      ),
    );
    this.#timer = setInterval(() => this.#tick(), 500);
  }

  take(event: SearchEvent): void {
    switch (event.kind) {
      case "queued":
        return this.#queued(event.progress);
      case "proposed":
        return this.#proposed(event.players);
      case "assigned":
        return this.#proposed(event.assignment.players);
      case "requeued":
        return this.#phase("searching", "Searching again", "That match could not start. You are first in line.");
      case "interrupted":
        return this.#phase("lost", "Connection lost", "Trying again. Your place in the queue is kept.");
      case "ended":
        return undefined;
    }
  }

  /** Resolves when whoever was found has been shown long enough to be read. */
  async shown(): Promise<void> {
    const leftMs = FOUND_MS - (Date.now() - this.#foundMs);
    if (leftMs > 0) await new Promise((resolve) => setTimeout(resolve, leftMs));
  }

  dispose(): void {
    clearInterval(this.#timer);
  }

  #queued(progress: QueueProgress): void {
    this.#phase("searching", "Looking for players", needed(progress));
    const wait = progress.estimatedWait;
    say(this.#position, progress.position > 0 ? String(progress.position) : "–");
    say(this.#wait, wait ? duration(Number(wait.seconds)) : "unknown");
    say(this.#range, progress.ratingRange > 0 ? `± ${progress.ratingRange}` : "any");
    say(this.#searching, String(progress.searching));
    const place = progress.position > 0 ? `Place ${progress.position} of ${progress.searching}.` : "";
    say(this.#spoken, place);
    refill(this.#found);
  }

  #proposed(players: readonly MatchedPlayer[]): void {
    if (this.element.dataset["phase"] !== "found") this.#foundMs = Date.now();
    const names = players.map((player) => player.displayName).join(", ");
    this.#phase("found", "Match found", "Taking your seat.");
    this.#cancel.disabled = true;
    say(this.#spoken, `Match found: ${names}`);
    const chips = players.map((player, at) =>
      element("li", { style: `--seat:${colorOf(at)};--at:${at}` }, element("strong", {}, player.displayName), element("span", {}, String(player.rating))),
    );
    refill(this.#found, ...chips);
  }

  #phase(phase: string, title: string, hint: string): void {
    this.element.dataset["phase"] = phase;
    this.#cancel.disabled = false;
    say(this.#status, title);
    say(this.#hint, hint);
  }

  #tick(): void {
    const seconds = Math.floor((Date.now() - this.#startedMs) / 1000);
    say(this.#clock, `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`);
  }
}

function figure(label: string, value: HTMLElement): HTMLElement {
  return element("div", {}, element("dt", {}, label), value);
}

function needed(progress: QueueProgress): string {
  const missing = progress.needed - progress.searching;
  if (missing > 0) return missing === 1 ? "One more player is needed." : `${missing} more players are needed.`;
  return "Enough players are here. Finding a fair match.";
}

function duration(seconds: number): string {
  if (seconds < 1) return "a moment";
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
