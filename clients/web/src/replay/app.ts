// The replay's page: the picture, who is who, and the bar. `?room=` names it; `&as=operator` watches as
// one, `&as=spectator` watches a room that runs.
import type { SeatInfo } from "../gen/rallypoint/v1/room_pb";
import { offerOf } from "../page/catalog";
import { element, refill, say } from "../page/element";
import { explain } from "../page/explain";
import { colorOf, nameOf } from "../page/game_view";
import type { ReplayView } from "../page/game_view";
import { wordmark } from "../page/screens/home";
import { Bar } from "./bar";
import { Player } from "./player";
import { chunksOf } from "./source";
import type { Who } from "./source";
import { Timeline } from "./timeline";

const FETCHED_AGAIN = 5;
const AGAIN_MS = 400;
const BACK: Readonly<Record<Who, string>> = { player: "/", spectator: "/", operator: "/operator" };

export class ReplayApp {
  readonly timeline = new Timeline();
  readonly #root: HTMLElement;
  readonly #roomId: string;
  readonly #who: Who;
  readonly #leaving = new AbortController();
  readonly #stage = element("div", { class: "stage" }, element("p", { class: "waiting" }, "Fetching the match…"));
  readonly #cast = element("ul", { class: "cast", "aria-label": "Players" });
  readonly #title = element("h1", { tabindex: -1 }, "Replay");
  readonly #below = element("div", { class: "below-stage" });
  #view: ReplayView | undefined;
  #bar: Bar | undefined;
  #shownCast = "";
  #lastMs = performance.now();
  player: Player | undefined;

  constructor(root: HTMLElement) {
    this.#root = root;
    const asked = new URLSearchParams(location.search);
    this.#roomId = asked.get("room") ?? "";
    const as = asked.get("as");
    this.#who = as === "operator" || as === "spectator" ? as : "player";
  }

  /** What the view shows, for tests. */
  facts(): Readonly<Record<string, unknown>> {
    return { ...this.#view?.facts(), atMs: this.player?.atMs, lengthMs: this.timeline.lengthMs };
  }

  async start(): Promise<void> {
    const back = element("a", { class: "button quiet", href: BACK[this.#who] }, this.#who === "operator" ? "All rooms" : "Home");
    refill(this.#root, element("header", {}, wordmark(), this.#title, back), this.#stage, this.#below);
    globalThis.addEventListener("pagehide", () => this.#leaving.abort());
    addEventListener("keydown", (event) => this.#key(event));
    try {
      await this.#fetch();
      // Who comes straight from the match may be here before its last chunk is stored.
      for (let again = 0; again < FETCHED_AGAIN && this.#who === "player" && !this.timeline.ended; again++) {
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        await this.#fetch();
      }
      if (this.timeline.frames.length === 0) throw new Error("an empty recording");
    } catch (error) {
      if (!this.#leaving.signal.aborted) this.#failed(error);
    }
  }

  async #fetch(): Promise<void> {
    for await (const chunk of chunksOf(this.#roomId, this.#who, this.#leaving.signal)) {
      this.timeline.add(chunk);
      this.#begin();
    }
  }

  #begin(): void {
    const { head } = this.timeline;
    if (this.#view || !head) return;
    const offer = offerOf(head.game);
    if (!offer) return this.#notice("This page cannot show that game", `It is called ${head.game}.`);
    const live = this.#who === "spectator";
    say(this.#title, live ? `Watching ${offer.title}` : `${offer.title}, replayed`);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const view = (this.#view = offer.replay({ seats: this.timeline.seats, tickHz: head.tickHz, calm }));
    this.player = new Player(this.timeline, view, { live });
    this.#bar = new Bar(this.player, this.timeline, live);
    refill(this.#stage, view.element);
    refill(this.#below, this.#cast, this.#bar.element);
    requestAnimationFrame((nowMs) => this.#pass(nowMs));
    return undefined;
  }

  #pass(nowMs: number): void {
    requestAnimationFrame((next) => this.#pass(next));
    // A tab that was hidden goes on where it was.
    const elapsedMs = Math.min(200, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.player?.pass(elapsedMs, nowMs);
    this.#bar?.refresh();
    this.#showCast();
  }

  #showCast(): void {
    const seats = [...this.timeline.seats.values()].toSorted((a, b) => a.slot - b.slot);
    const view = this.#view;
    const shown = JSON.stringify([seats.map((seat) => [seat.slot, seat.displayName]), view?.followed, this.timeline.result?.placements.length]);
    if (!view || shown === this.#shownCast) return;
    this.#shownCast = shown;
    refill(this.#cast, ...seats.map((seat) => this.#member(seat, view)));
  }

  #member(seat: SeatInfo, view: ReplayView): HTMLElement {
    const rank = this.timeline.result?.placements.find((placement) => placement.slot === seat.slot)?.rank;
    const name = nameOf(this.timeline.seats, seat.slot);
    const follow = (): void => view.follow?.(view.followed === seat.slot ? undefined : seat.slot);
    const button = element(
      "button",
      { type: "button", style: `--seat:${colorOf(seat.slot)}`, "aria-pressed": String(view.followed === seat.slot), disabled: !view.follow, title: view.follow ? `Follow ${name}` : name, click: follow },
      element("i", { "aria-hidden": "true" }),
      element("span", {}, name),
      rank !== undefined && element("small", { title: "Place at the end" }, `#${rank}`),
    );
    return element("li", {}, button);
  }

  #key(event: KeyboardEvent): void {
    const busy = event.target instanceof HTMLButtonElement && event.key === " ";
    if (busy || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.#bar?.key(event.key)) event.preventDefault();
  }

  #failed(error: unknown): void {
    if (this.#view) return; // what has come can be watched
    const { title, advice } = explain(error);
    this.#notice(title, advice);
  }

  #notice(title: string, advice: string): void {
    refill(this.#stage, element("div", { class: "panel notice", role: "alert" }, element("h2", {}, title), element("p", { class: "lead" }, advice)));
  }
}
