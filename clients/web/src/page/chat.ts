// What players write to each other during a match: a line each, gone after a while.
import type { SeatInfo } from "../gen/rallypoint/v1/room_pb";
import type { GameEvent, RoomConnection } from "../room/connection";
import { RallypointError } from "../rpc/error";
import { element, say } from "./element";
import { colorOf, nameOf } from "./game_view";

/** The kind of the chat plug-in's messages and events (services/rallypoint/games/chat.py). */
const CHAT = 2 ** 31;
const LONGEST = 200;
const LINES = 6;
const SHOWN_MS = 12_000;
const REFUSALS: Readonly<Record<string, string>> = {
  MESSAGE_RATE: "Not so fast: wait a moment.",
  MESSAGE_UNKNOWN: "This game has no chat.",
  CHAT_EMPTY: "There is nothing to send.",
};

export class ChatBox {
  readonly element: HTMLElement;
  /** Opens and closes the line to write in. */
  readonly button: HTMLButtonElement;
  readonly #connection: RoomConnection;
  readonly #seats: ReadonlyMap<number, SeatInfo>;
  readonly #lines = element("ul", { class: "lines", "aria-live": "polite", "aria-label": "Chat" });
  readonly #problem = element("p", { class: "chat-problem", role: "alert" });
  readonly #field: HTMLInputElement;
  readonly #form: HTMLFormElement;

  constructor(connection: RoomConnection, seats: ReadonlyMap<number, SeatInfo>) {
    this.#connection = connection;
    this.#seats = seats;
    const ours = (event: Event): void => this.#key(event as KeyboardEvent);
    this.#field = element("input", { type: "text", maxlength: LONGEST, autocomplete: "off", enterkeyhint: "send", "aria-label": "Say something", keydown: ours, keyup: (event) => event.stopPropagation() });
    this.#form = element("form", { hidden: true, submit: (event) => this.#submitted(event) }, this.#field, element("button", { class: "button quiet", type: "submit" }, "Send"));
    this.element = element("div", { class: "chat" }, this.#lines, this.#problem, this.#form);
    this.button = element("button", { class: "button quiet", type: "button", "aria-expanded": "false", click: () => this.#toggle(this.#form.hidden === true) }, "Chat");
    globalThis.addEventListener("keydown", this.#opened);
  }

  take(events: readonly GameEvent[]): void {
    for (const event of events) if (event.type === CHAT) this.#line(event.body);
  }

  dispose(): void {
    globalThis.removeEventListener("keydown", this.#opened);
  }

  /** Enter opens the line, where nothing else wants that key. */
  readonly #opened = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.target !== document.body) return;
    event.preventDefault();
    this.#toggle(true);
  };

  #toggle(open: boolean): void {
    this.#form.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    say(this.#problem, "");
    if (!open) return this.#field.blur();
    // The game must let go of the keys that are held: their release will not reach it.
    globalThis.dispatchEvent(new Event("blur"));
    return this.#field.focus();
  }

  #key(event: KeyboardEvent): void {
    event.stopPropagation();
    if (event.key === "Escape") this.#toggle(false);
  }

  #submitted(event: Event): void {
    event.preventDefault();
    const text = this.#field.value.trim();
    if (text === "") return this.#toggle(false);
    this.#field.value = "";
    say(this.#problem, "");
    this.#connection.sendMessage(CHAT, new TextEncoder().encode(text)).then(
      () => undefined,
      (error: unknown) => {
        const reason = error instanceof RallypointError ? error.reason : "";
        say(this.#problem, REFUSALS[reason] ?? "That did not arrive. Try again.");
        this.#field.value ||= text;
      },
    );
    return undefined;
  }

  #line(body: Uint8Array): void {
    const seat = body[0] ?? 0;
    const text = new TextDecoder().decode(body.subarray(1));
    const line = element("li", { style: `--seat:${colorOf(seat)}` }, element("b", {}, nameOf(this.#seats, seat)), ` ${text}`);
    this.#lines.append(line);
    while (this.#lines.children.length > LINES) this.#lines.firstChild?.remove();
    setTimeout(() => line.remove(), SHOWN_MS);
  }
}
