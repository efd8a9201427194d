// The result: who came where, and what it did to one's rating.
import type { Rating } from "../../gen/rallypoint/v1/matchmaking_pb";
import type { Placement } from "../../gen/rallypoint/v1/room_pb";
import type { Offer } from "../catalog";
import { element, refill, say } from "../element";
import { explainReason } from "../explain";
import { colorOf, nameOf } from "../game_view";
import { wordmark } from "./home";
import type { Outcome } from "./match";

export interface ResultOptions {
  readonly offer: Offer;
  readonly outcome: Outcome;
  readonly playerId: string;
  /** The room; its replay is offered once there is one. */
  readonly roomId: string;
  readonly again: string;
  readonly onAgain: () => void;
  readonly onHome: () => void;
}

export interface ResultScreen {
  readonly element: HTMLElement;
  rated(rating: Rating): void;
  unrated(): void;
  /** The match was recorded: offer it. */
  replayable(): void;
  late(): void;
}

export function resultScreen(options: ResultOptions): ResultScreen {
  const figure = element("strong", { class: "figure" }, "…");
  const change = element("span", { class: "change" });
  const note = element("span", { class: "note", role: "status" }, "Counting your rating");
  const { title, lead } = verdict(options);
  const placements = [...(options.outcome.ending.result?.placements ?? [])].sort((a, b) => a.rank - b.rank);
  const screen = element(
    "main",
    { class: "screen result" },
    wordmark(),
    element(
      "section",
      { class: "panel" },
      element("p", { class: "eyebrow" }, options.offer.title),
      element("h1", { tabindex: -1, "data-focus": true }, title),
      element("p", { class: "lead" }, lead),
      placements.length > 0 && standings(placements, options),
      element("div", { class: "rating-card" }, element("span", { class: "label" }, "Rating"), figure, change, note),
      element(
        "div",
        { class: "actions" },
        element("button", { class: "button primary large", type: "button", click: options.onAgain }, options.again),
        element("a", { class: "button", href: `/replay?room=${encodeURIComponent(options.roomId)}`, "data-replay": true, hidden: true }, "Watch the replay"),
        element("button", { class: "button", type: "button", click: options.onHome }, "Home"),
      ),
    ),
  );
  return {
    element: screen,
    rated: (rating) => {
      screen.dataset["rated"] = "yes";
      say(figure, String(rating.display));
      const up = rating.lastChange >= 0;
      change.dataset["way"] = rating.lastChange === 0 ? "same" : up ? "up" : "down";
      say(change, rating.lastChange === 0 ? "± 0" : `${up ? "▲ +" : "▼ −"}${Math.abs(rating.lastChange)}`);
      say(note, rating.matches === 1 ? "after your first match" : `after ${rating.matches} matches`);
    },
    unrated: () => {
      say(figure, "–");
      refill(change);
      say(note, "This match was not rated");
    },
    replayable: () => {
      const link = screen.querySelector<HTMLElement>("[data-replay]");
      if (link) link.hidden = false;
    },
    late: () => {
      say(figure, "–");
      say(note, options.outcome.ending.how === "left" ? "Counted when the others have finished" : "Still being counted; home will show it");
    },
  };
}

function verdict({ outcome, playerId }: ResultOptions): { title: string; lead: string } {
  const { ending } = outcome;
  const placements = ending.result?.placements ?? [];
  const own = placements.find((placement) => placement.playerId === playerId);
  if (ending.how === "left") return { title: "You left", lead: "The others play on without you." };
  if (!own) {
    const told = explainReason(ending.reason);
    return { title: told.title, lead: told.advice };
  }
  const tied = placements.filter((placement) => placement.rank === own.rank).length > 1;
  if (own.rank === 1) return tied ? { title: "A draw", lead: "Nobody was better today." } : { title: "You won", lead: "Well played." };
  return { title: placements.length === 2 ? "You lost" : `Place ${own.rank} of ${placements.length}`, lead: "The next one is yours." };
}

function standings(placements: readonly Placement[], { outcome, playerId }: ResultOptions): HTMLElement {
  const rows = placements.map((placement) =>
    element(
      "li",
      { class: placement.playerId === playerId ? "self" : "", style: `--seat:${colorOf(placement.slot)}` },
      element("span", { class: "rank" }, String(placement.rank)),
      element("span", { class: "who" }, nameOf(outcome.seats, placement.slot), placement.leftEarly && element("small", {}, " left early")),
      element("span", { class: "score" }, shown(placement.score)),
    ),
  );
  return element("ol", { class: "standings", "aria-label": "Standings" }, ...rows);
}

function shown(score: number): string {
  return Number.isInteger(score) ? String(score) : score.toFixed(1);
}
