// The rooms that were recorded, the newest first; each leads to its replay.
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ReplayListing } from "../gen/rallypoint/v1/admin_pb";
import { element, refill, say } from "../page/element";

const HEAD = ["Room", "Game", "Queue", "Made", "Length", "Players", ""] as const;

export function replayOf(roomId: string): string {
  return `/replay?room=${encodeURIComponent(roomId)}&as=operator`;
}

export class ReplayTable {
  readonly element: HTMLElement;
  readonly #summary = element("p", { class: "summary" }, "Asking…");
  readonly #rows = element("tbody");
  #shown = "";

  constructor() {
    const head = element("thead", {}, element("tr", {}, ...HEAD.map((name) => element("th", { scope: "col" }, name))));
    this.element = element(
      "section",
      { class: "panel rooms", "aria-label": "Replays" },
      element("h2", {}, "Replays"),
      this.#summary,
      element("div", { class: "scroll" }, element("table", {}, head, this.#rows)),
    );
  }

  show(replays: readonly ReplayListing[]): void {
    const shown = JSON.stringify(replays.map((replay) => [replay.roomId, Math.round(replay.lengthS), replay.ended]));
    if (shown === this.#shown) return;
    this.#shown = shown;
    say(this.#summary, replays.length > 0 ? `${replays.length} recorded, the newest first` : "Nothing is recorded. A queue says so with \"replay\": true.");
    refill(this.#rows, ...replays.map(row));
  }
}

function row(replay: ReplayListing): HTMLElement {
  const link = element("a", { class: "link", href: replayOf(replay.roomId), "data-replay": replay.roomId }, replay.roomId.length > 12 ? `${replay.roomId.slice(0, 10)}…` : replay.roomId);
  const made = replay.createTime ? timestampDate(replay.createTime).toLocaleTimeString() : "";
  const cells = [replay.game, replay.queue || "–", made, `${Math.round(replay.lengthS)} s`, String(replay.players), replay.ended ? "" : "running"];
  return element("tr", {}, element("th", { scope: "row" }, link), ...cells.map((cell) => element("td", {}, cell)));
}
