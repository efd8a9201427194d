// The match: the game's own view under the figures, the banner and the way out.
import { ControlKind } from "../../gen/rallypoint/v1/room_pb";
import type { SeatInfo, Welcome } from "../../gen/rallypoint/v1/room_pb";
import type { ChannelOptions } from "../../rpc/channel";
import { RoomConnection } from "../../room/connection";
import type { Ending, RoomState } from "../../room/connection";
import type { Seat, SeatStore } from "../../room/seats";
import type { Offer } from "../catalog";
import { ChatBox } from "../chat";
import { element, say } from "../element";
import type { GameView } from "../game_view";
import { Hud } from "../hud";
import { invitation } from "../invitation";

export interface Outcome {
  readonly ending: Ending;
  readonly seats: ReadonlyMap<number, SeatInfo>;
}

export interface MatchOptions {
  readonly offer: Offer;
  readonly seat: Seat;
  readonly seats: SeatStore;
  readonly channel: Pick<ChannelOptions, "url" | "credentials" | "transport">;
  readonly onOver: (outcome: Outcome) => void;
}

/** Let the last picture stand before the result covers it. */
const CURTAIN_MS = 900;
/** A shorter break is not worth a banner. */
const BANNER_AFTER_MS = 400;
const SLOW_MS = 4_000;

export class MatchScreen {
  readonly element: HTMLElement;
  readonly connection: RoomConnection;
  view: GameView | undefined;
  readonly #options: MatchOptions;
  readonly #seats = new Map<number, SeatInfo>();
  readonly #hud: Hud;
  readonly #chat: ChatBox;
  readonly #stage = element("div", { class: "stage" }, element("p", { class: "waiting" }, "Taking your seat…"));
  readonly #banner = element("div", { class: "banner", role: "alert", hidden: true });
  #bannerTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: MatchOptions) {
    this.#options = options;
    this.connection = new RoomConnection({
      channel: options.channel,
      seats: options.seats,
      seat: options.seat,
      handlers: {
        onState: (state) => this.#state(state),
        onWelcome: (welcome) => this.#welcome(welcome),
        onFrame: (update) => {
          this.view?.frame(update);
          this.#chat.take(update.events);
        },
        onSeat: (seat) => this.#seats.set(seat.slot, seat),
        onControl: (kind, reason) => this.#told(kind, reason),
        onEnded: (ending) => this.#ended(ending),
      },
    });
    this.#chat = new ChatBox(this.connection, this.#seats);
    this.#hud = new Hud(() => ({ ...this.connection.statistics(), predictionError: this.view?.predictionError() }));
    this.element = element(
      "main",
      { class: `screen match ${options.offer.game}` },
      this.#stage,
      element("div", { class: "topbar" }, this.#hud.element, this.#ways()),
      this.#chat.element,
      this.#banner,
    );
    globalThis.addEventListener("pagehide", this.#pagehide);
  }

  async run(): Promise<void> {
    await this.connection.run();
  }

  dispose(): void {
    globalThis.removeEventListener("pagehide", this.#pagehide);
    clearTimeout(this.#bannerTimer);
    this.connection.detach();
    this.#hud.dispose();
    this.#chat.dispose();
    this.view?.dispose();
  }

  readonly #pagehide = (): void => this.connection.detach();

  #ways(): HTMLElement {
    const { code } = this.#options.seat;
    return element("div", { class: "match-ways" }, code !== undefined && invitation(code), this.#chat.button, this.#leaveButton());
  }

  #leaveButton(): HTMLElement {
    const question = element("dialog", { class: "panel", "aria-labelledby": "leave-title" });
    const close = (): void => question.close();
    question.append(
      element("h2", { id: "leave-title" }, "Leave this match?"),
      element("p", {}, this.#options.seat.code ? "Your seat will not be kept." : "It counts as a loss, and your seat will not be kept."),
      element(
        "div",
        { class: "actions" },
        element("button", { class: "button primary", type: "button", click: close }, "Stay"),
        element("button", { class: "button", type: "button", click: () => this.#leave() }, "Leave"),
      ),
    );
    const open = (): void => question.showModal();
    const button = element("button", { class: "button quiet", type: "button", click: open }, "Leave");
    return element("div", {}, button, question);
  }

  #leave(): void {
    this.connection.leave().catch(() => undefined);
  }

  #welcome(welcome: Welcome): void {
    this.#seats.clear();
    for (const seat of welcome.seats) this.#seats.set(seat.slot, seat);
    if (this.view) return this.view.rejoined(welcome);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.view = this.#options.offer.view({ connection: this.connection, welcome, seats: this.#seats, calm });
    this.#stage.replaceChildren(this.view.element);
    return undefined;
  }

  #state(state: RoomState): void {
    this.element.dataset["state"] = state;
    clearTimeout(this.#bannerTimer);
    if (state !== "reconnecting") {
      this.#banner.hidden = true;
      return;
    }
    const graceMs = this.connection.welcome?.graceMs ?? 0;
    const kept = graceMs > 0 ? ` Your seat is kept for ${Math.round(graceMs / 1000)} s.` : "";
    this.#bannerTimer = setTimeout(() => {
      say(this.#banner, `Connection lost. Reconnecting…${kept}`);
      this.#banner.hidden = false;
    }, BANNER_AFTER_MS);
  }

  #told(kind: ControlKind, reason: string): void {
    if (kind !== ControlKind.SLOW || this.connection.state !== "live") return;
    clearTimeout(this.#bannerTimer);
    if (reason === "FULL_RATE") {
      this.#banner.hidden = true;
      return;
    }
    say(this.#banner, "Your connection is slow: you see fewer updates.");
    this.#banner.hidden = false;
    this.#bannerTimer = setTimeout(() => (this.#banner.hidden = true), SLOW_MS);
  }

  #ended(ending: Ending): void {
    const seats = new Map(this.#seats);
    const curtainMs = ending.how === "closed" && this.view ? CURTAIN_MS : 0;
    setTimeout(() => this.#options.onOver({ ending, seats }), curtainMs);
  }
}
