// Rooms: make one for friends, enter one by its code, or pick one from the list.
import type { RoomListing } from "../../gen/rallypoint/v1/room_pb";
import { OFFERS, offerOf } from "../catalog";
import type { Offer } from "../catalog";
import { element, refill, say } from "../element";
import type { Explanation } from "../explain";
import { wordmark } from "./home";

export interface RoomsOptions {
  readonly game: string;
  /** From an invitation. */
  readonly code: string;
  readonly onCreate: (offer: Offer, listed: boolean) => void;
  readonly onCode: (code: string) => void;
  readonly onBack: () => void;
  readonly list: () => Promise<readonly RoomListing[]>;
  /** Rooms that let spectators in. */
  readonly watchable: () => Promise<readonly RoomListing[]>;
}

const CODE_LENGTH = 6;
const EVERY_MS = 2_000;
const MOST_MATCHES = 10;

export class RoomsScreen {
  readonly element: HTMLElement;
  readonly #options: RoomsOptions;
  readonly #problem = element("p", { class: "problem", role: "alert" });
  readonly #list = element("ul", { class: "open-rooms", "aria-label": "Open rooms" });
  readonly #none = element("p", { class: "lead" }, "Looking for open rooms…");
  readonly #code: HTMLInputElement;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #matches = element("ul", { class: "open-rooms", "aria-label": "Matches to watch" });
  readonly #watch = element("section", { class: "panel", hidden: true }, element("h2", {}, "Watch a match"), this.#matches);
  #shown = "";
  #shownMatches = "";

  constructor(options: RoomsOptions) {
    this.#options = options;
    this.#code = element("input", {
      id: "code",
      name: "code",
      type: "text",
      class: "code",
      autocomplete: "off",
      autocapitalize: "characters",
      spellcheck: "false",
      enterkeyhint: "go",
      // A pasted code may have a dash or spaces in it.
      maxlength: CODE_LENGTH + 4,
      placeholder: "ABC 234",
      value: options.code,
      "aria-describedby": "code-hint",
      "data-focus": matchMedia("(pointer: fine)").matches,
    });
    this.element = element(
      "main",
      { class: "screen rooms" },
      element("header", { class: "rooms-head" }, wordmark(), element("h1", { tabindex: -1 }, "Play with friends"), this.#problem),
      element("div", { class: "rooms-ways" }, this.#enter(), this.#make()),
      element("section", { class: "panel" }, element("h2", {}, "Open rooms"), this.#none, this.#list),
      this.#watch,
      element("div", { class: "actions" }, element("button", { class: "button", type: "button", click: options.onBack }, "Back")),
    );
    this.#timer = setInterval(() => void this.#refresh(), EVERY_MS);
    void this.#refresh();
  }

  /** Say why it did not work; the player may try again at once. */
  failed({ title, advice }: Explanation): void {
    this.busy(false);
    say(this.#problem, `${title}. ${advice}`);
  }

  /** While a room is made or entered nothing else can be pressed. */
  busy(waiting: boolean): void {
    if (waiting) say(this.#problem, "");
    for (const button of this.element.querySelectorAll<HTMLButtonElement>(".panel button")) button.disabled = waiting;
  }

  dispose(): void {
    clearInterval(this.#timer);
  }

  #enter(): HTMLElement {
    return element(
      "form",
      { class: "panel start", submit: (event) => this.#submitted(event) },
      element("label", { for: "code" }, "Enter a code"),
      this.#code,
      element("p", { class: "lead", id: "code-hint" }, "Six letters and digits, from whoever made the room."),
      element("button", { class: "button primary large", type: "submit" }, "Join"),
    );
  }

  #make(): HTMLElement {
    const games = OFFERS.map((offer) =>
      element(
        "label",
        { class: "offer small" },
        element("input", { type: "radio", name: "room-game", value: offer.game, checked: offer.game === this.#options.game }),
        element("strong", {}, offer.title),
        element("span", { class: "facts" }, offer.players),
      ),
    );
    const listed = element("input", { type: "checkbox", name: "listed" });
    const form: HTMLFormElement = element(
      "form",
      {
        class: "panel start",
        submit: (event) => {
          event.preventDefault();
          const chosen = offerOf(String(new FormData(form).get("room-game") ?? "")) ?? OFFERS[0];
          if (chosen) this.#options.onCreate(chosen, listed.checked);
        },
      },
      element("fieldset", { class: "offers" }, element("legend", {}, "Make a room"), ...games),
      element("label", { class: "check" }, listed, "Show it in the list, so that anybody can join"),
      element("button", { class: "button primary large", type: "submit" }, "Make a room"),
    );
    return form;
  }

  #submitted(event: Event): void {
    event.preventDefault();
    const code = this.#code.value.replace(/[\s-]/g, "");
    if (code.length === CODE_LENGTH) return this.#options.onCode(code);
    say(this.#problem, `A code has ${CODE_LENGTH} letters and digits.`);
    this.#code.focus();
    return undefined;
  }

  async #refresh(): Promise<void> {
    if (document.hidden) return;
    try {
      this.#show((await this.#options.list()).filter((room) => offerOf(room.game)));
      this.#showMatches((await this.#options.watchable()).filter((room) => offerOf(room.game)));
    } catch {
      say(this.#none, "The list is not available right now.");
      this.#none.hidden = false;
    }
  }

  #show(rooms: readonly RoomListing[]): void {
    this.#none.hidden = rooms.length > 0;
    say(this.#none, "No open room right now. Make one, and tick the box to have it shown here.");
    const shown = JSON.stringify(rooms.map((room) => [room.code, room.players, room.maxPlayers, room.metadata]));
    // What has not changed is left alone, or the focus would be lost every two seconds.
    if (shown === this.#shown) return;
    const focused = document.activeElement?.getAttribute("data-code");
    this.#shown = shown;
    refill(this.#list, ...rooms.map((room) => this.#row(room)));
    if (focused) this.#list.querySelector<HTMLElement>(`[data-code="${focused}"]`)?.focus();
  }

  #showMatches(rooms: readonly RoomListing[]): void {
    this.#watch.hidden = rooms.length === 0;
    const shown = JSON.stringify(rooms.map((room) => [room.roomId, room.players]));
    if (shown === this.#shownMatches) return;
    this.#shownMatches = shown;
    refill(this.#matches, ...rooms.slice(0, MOST_MATCHES).map(matchRow));
  }

  #row(room: RoomListing): HTMLElement {
    const title = offerOf(room.game)?.title ?? room.game;
    const host = room.metadata["host"];
    return element(
      "li",
      {},
      element("strong", {}, title),
      element("span", { class: "who" }, host ? `${host}'s room` : ""),
      element("span", { class: "facts" }, `${room.players} of ${room.maxPlayers} players`),
      element("button", { class: "button", type: "button", "data-code": room.code, "aria-label": `Join ${title}${host ? `, ${host}'s room` : ""}`, click: () => this.#options.onCode(room.code) }, "Join"),
    );
  }
}

function matchRow(room: RoomListing): HTMLElement {
  const title = offerOf(room.game)?.title ?? room.game;
  return element(
    "li",
    {},
    element("strong", {}, title),
    element("span", { class: "who" }, `${room.spectateDelayMs / 1000} s behind`),
    element("span", { class: "facts" }, `${room.players} of ${room.maxPlayers} players`),
    element("a", { class: "button", href: `/replay?room=${encodeURIComponent(room.roomId)}&as=spectator` }, "Watch"),
  );
}
