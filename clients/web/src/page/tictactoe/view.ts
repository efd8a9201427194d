// Tic-tac-toe on the screen: nine buttons, a message per move, whose turn it is and for how long.
import type { SeatInfo, Welcome } from "../../gen/rallypoint/v1/room_pb";
import type { FrameUpdate } from "../../room/connection";
import { RallypointError } from "../../rpc/error";
import { drawing, element, say } from "../element";
import { colorOf, nameOf } from "../game_view";
import type { GameContext, GameView, ReplayContext, ReplayView } from "../game_view";

const PLACE = 1;
const LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]] as const;
const CROSS = `<svg viewBox="0 0 40 40" aria-hidden="true"><path d="M9 9l22 22M31 9L9 31"/></svg>`;
const RING = `<svg viewBox="0 0 40 40" aria-hidden="true"><circle cx="20" cy="20" r="12"/></svg>`;
const REFUSALS: Readonly<Record<string, string>> = {
  NOT_STARTED: "The other player is not here yet.",
  NOT_YOUR_TURN: "It is not your turn.",
  CELL_TAKEN: "That cell is taken.",
};
const STEPS: Readonly<Record<string, number>> = { ArrowUp: -3, ArrowDown: 3, ArrowLeft: -1, ArrowRight: 1 };

export function tictactoeView(context: GameContext): GameView {
  const { connection, welcome, seats } = context;
  return new TicTacToeView({ seats, tickHz: welcome.tickHz, self: welcome.slot, place: (cell) => connection.sendMessage(PLACE, Uint8Array.of(cell)) });
}

/** The board of a match that was played: nobody's turn to touch it. */
export function tictactoeReplay({ seats, tickHz }: ReplayContext): ReplayView {
  const view = new TicTacToeView({ seats, tickHz, self: -1, place: () => Promise.resolve() });
  return {
    element: view.element,
    followed: undefined,
    reset: () => undefined,
    frame: (frame) => view.frame(frame),
    draw: () => undefined,
    facts: () => view.facts(),
    dispose: () => view.dispose(),
  };
}

interface Board {
  readonly seats: ReadonlyMap<number, SeatInfo>;
  readonly tickHz: number;
  readonly self: number;
  readonly place: (cell: number) => Promise<unknown>;
}

class TicTacToeView implements GameView {
  readonly element: HTMLElement;
  readonly #context: Board;
  readonly #cells: readonly HTMLButtonElement[];
  readonly #status = element("p", { class: "turn", role: "status", "aria-live": "polite" }, "Waiting for the other player…");
  readonly #clock = element("span", { class: "time", "aria-label": "Time for this move" }, "");
  readonly #players = [element("li"), element("li")] as const;
  readonly #grid: HTMLElement;
  #self: number;
  #marks: number[] = Array.from({ length: 9 }, () => 0);
  #turn: number | undefined;
  #sending = false;

  constructor(context: Board) {
    this.#context = context;
    this.#self = context.self;
    this.#cells = Array.from({ length: 9 }, (_, at) =>
      element("button", { class: "cell", type: "button", tabindex: at === 4 ? 0 : -1, click: () => void this.#place(at) }),
    );
    this.#grid = element("div", { class: "grid", role: "group", "aria-label": "Board", keydown: (event) => this.#walk(event as KeyboardEvent) }, ...this.#cells);
    this.element = element(
      "div",
      { class: "tictactoe-view" },
      element("ul", { class: "pair", "aria-label": "Players" }, ...this.#players),
      this.#grid,
      element("div", { class: "below" }, this.#status, this.#clock),
    );
    this.#show();
  }

  rejoined(welcome: Welcome): void {
    this.#self = welcome.slot;
  }

  frame({ tables, tick }: Pick<FrameUpdate, "tables" | "tick">): void {
    this.#marks = [...tables.table("board").column("mark")];
    const turn = tables.table("turn");
    const deadline = turn.get("deadline", 0);
    this.#turn = deadline > 0 && !this.#over() ? turn.get("seat", 0) : undefined;
    const left = Math.max(0, (deadline - tick) / this.#context.tickHz);
    say(this.#clock, this.#turn === undefined ? "" : `${Math.ceil(left)} s`);
    this.#clock.classList.toggle("soon", left < 10);
    this.#show();
  }

  predictionError(): undefined {
    return undefined;
  }

  facts(): Readonly<Record<string, unknown>> {
    return { self: this.#self, marks: this.#marks, turn: this.#turn };
  }

  dispose(): void {
    // Nothing runs by itself.
  }

  async #place(cell: number): Promise<void> {
    if (this.#sending || this.#turn !== this.#self || this.#marks[cell] !== 0) return;
    this.#sending = true;
    this.#cells[cell]?.classList.add("pending");
    try {
      await this.#context.place(cell);
    } catch (error) {
      const reason = error instanceof RallypointError ? error.reason : "";
      say(this.#status, REFUSALS[reason] ?? "The move did not arrive. Try again.");
    } finally {
      this.#sending = false;
      this.#cells[cell]?.classList.remove("pending");
    }
  }

  #walk(event: KeyboardEvent): void {
    const at = this.#cells.findIndex((cell) => cell === document.activeElement);
    const by = STEPS[event.key];
    if (at < 0 || by === undefined) return;
    event.preventDefault();
    const column = at % 3;
    if ((by === -1 && column === 0) || (by === 1 && column === 2)) return;
    this.#cells[at + by]?.focus();
  }

  #over(): boolean {
    return this.#line() !== undefined || this.#marks.every((mark) => mark !== 0);
  }

  #line(): readonly number[] | undefined {
    return LINES.find(([a, b, c]) => this.#marks[a] !== 0 && this.#marks[a] === this.#marks[b] && this.#marks[b] === this.#marks[c]);
  }

  #show(): void {
    const line = this.#line() ?? [];
    const mine = this.#turn === this.#self;
    this.element.dataset["turn"] = this.#turn === undefined ? "none" : mine ? "mine" : "theirs";
    this.#cells.forEach((cell, at) => this.#showCell(cell, at, line.includes(at)));
    this.#players.forEach((item, slot) => {
      item.style.setProperty("--seat", colorOf(slot));
      item.classList.toggle("active", this.#turn === slot);
      const name = `${nameOf(this.#context.seats, slot)}${slot === this.#self ? " (you)" : ""}`;
      if (item.dataset["name"] !== name) item.replaceChildren(drawing(slot === 0 ? CROSS : RING), name);
      item.dataset["name"] = name;
    });
    if (this.#turn !== undefined) say(this.#status, mine ? "Your turn" : `${nameOf(this.#context.seats, this.#turn)} is thinking`);
    else if (this.#over()) say(this.#status, line.length > 0 ? "Three in a row" : "The board is full");
  }

  #showCell(cell: HTMLButtonElement, at: number, won: boolean): void {
    const mark = this.#marks[at] ?? 0;
    if (cell.dataset["mark"] !== String(mark)) {
      cell.dataset["mark"] = String(mark);
      cell.style.setProperty("--seat", mark ? colorOf(mark - 1) : "");
      cell.replaceChildren(...(mark === 0 ? [] : [drawing(mark === 1 ? CROSS : RING)]));
    }
    const content = mark === 0 ? "empty" : mark === 1 ? "cross" : "ring";
    cell.setAttribute("aria-label", `Row ${Math.floor(at / 3) + 1}, column ${(at % 3) + 1}, ${content}`);
    cell.setAttribute("aria-disabled", String(mark !== 0 || this.#turn !== this.#self));
    cell.classList.toggle("won", won);
  }
}
