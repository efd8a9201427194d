// One room from inside: its seats and the columns of its tables; kick and close.
import type { GetLiveRoomResponse, LiveSeat, LiveTable } from "../gen/rallypoint/v1/admin_pb";
import { element, refill, say } from "../page/element";
import { Code, RallypointError } from "../rpc/error";
import { replayOf } from "./replays";
import type { OperatorApi } from "./api";

const MOST_ROWS = 40;

export class RoomPanel {
  readonly element = element("section", { class: "panel room", "aria-label": "Room", hidden: true });
  readonly #api: OperatorApi;
  readonly #tell: (text: string) => void;
  readonly #title = element("h2");
  readonly #replay = element("a", { class: "button" }, "Replay so far");
  readonly #facts = element("p", { class: "summary" });
  readonly #seats = element("ul", { class: "seats", "aria-label": "Seats" });
  readonly #tables = element("div", { class: "tables" });
  readonly #dialog = element("dialog", { class: "panel" });
  #shownSeats = "";
  roomId = "";

  constructor(api: OperatorApi, tell: (text: string) => void) {
    this.#api = api;
    this.#tell = tell;
    const close = element("button", { class: "button danger", type: "button", click: () => this.#askClose() }, "Close the room");
    this.element.append(element("div", { class: "head" }, this.#title, this.#replay, close), this.#facts, this.#seats, this.#tables, this.#dialog);
  }

  choose(roomId: string): void {
    this.roomId = roomId;
    this.#shownSeats = "";
    say(this.#title, roomId);
    this.#replay.href = replayOf(roomId);
    refill(this.#tables);
    refill(this.#seats);
    this.element.hidden = false;
  }

  async refresh(): Promise<void> {
    if (!this.roomId) return;
    try {
      this.#show(await this.#api.show(this.roomId));
    } catch (error) {
      if (!(error instanceof RallypointError && error.code === Code.NOT_FOUND)) throw error;
      this.roomId = "";
      this.element.hidden = true;
      this.#tell("That room has ended.");
    }
  }

  #show({ room, seats, tables }: GetLiveRoomResponse): void {
    if (!room || room.roomId !== this.roomId) return;
    const metadata = Object.entries(room.metadata).map(([name, value]) => `${name}: ${value}`);
    const made = room.queue ? `queue ${room.queue}` : room.code ? `code ${room.code}` : "";
    say(this.#facts, [room.game, `on ${room.nodeId}`, `epoch ${room.epoch}`, `tick ${room.tick}`, made, ...metadata].filter(Boolean).join(" · "));
    const shown = JSON.stringify(seats.map((seat) => [seat.seat?.slot, seat.seat?.playerId, seat.state]));
    if (shown !== this.#shownSeats) refill(this.#seats, ...seats.map((seat) => this.#seat(seat)));
    this.#shownSeats = shown;
    const kept = new Map([...this.#tables.children].map((old) => [(old as HTMLElement).dataset["table"], old as HTMLDetailsElement]));
    const drawn = tables.map(columns);
    refill(this.#tables, ...drawn);
    // What is folded stays folded, what is scrolled stays where it is.
    for (const [at, details] of drawn.entries()) {
      const old = kept.get(tables[at]?.name);
      if (!old) continue;
      details.open = old.open;
      const [from, to] = [old.querySelector(".scroll"), details.querySelector(".scroll")];
      if (from && to) to.scrollLeft = from.scrollLeft;
    }
  }

  #seat(seat: LiveSeat): HTMLElement {
    const { slot = 0, displayName = "", playerId = "" } = seat.seat ?? {};
    const kick = element("button", { class: "button", type: "button", "aria-label": `Kick ${displayName}`, click: () => this.#askKick({ slot, playerId }, displayName) }, "Kick");
    return element(
      "li",
      { "data-state": seat.state },
      element("b", {}, String(slot)),
      element("span", { class: "who" }, displayName, element("small", {}, playerId)),
      element("span", { class: "state" }, seat.state.toLowerCase()),
      seat.state !== "LEFT" && kick,
    );
  }

  #askKick(seat: { slot: number; playerId: string }, name: string): void {
    const { roomId } = this;
    this.#ask(`Kick ${name}?`, "KICKED", async (reason) => {
      await this.#api.kick(roomId, seat, reason);
      this.#tell(`${name} was kicked: ${reason}`);
    });
  }

  #askClose(): void {
    const { roomId } = this;
    this.#ask("Close this room?", "CLOSED_BY_OPERATOR", async (reason) => {
      await this.#api.close(roomId, reason);
      this.#tell(`The room is closed: ${reason}`);
    });
  }

  /** Ask for a reason, which players are told, and whether it is really meant. */
  #ask(title: string, usual: string, act: (reason: string) => Promise<void>): void {
    const reason = element("input", { id: "reason", value: usual, pattern: "[A-Z][A-Z0-9_]{0,63}", required: true });
    const problem = element("p", { class: "news", role: "alert" });
    const done = (event: Event): void => {
      event.preventDefault();
      act(reason.value).then(
        () => this.#dialog.close(),
        (error: unknown) => say(problem, error instanceof RallypointError ? error.message || error.reason : String(error)),
      );
    };
    refill(
      this.#dialog,
      element(
        "form",
        { submit: done },
        element("h2", {}, title),
        element("label", { for: "reason" }, "The reason that players are told"),
        reason,
        problem,
        element(
          "div",
          { class: "actions" },
          element("button", { class: "button danger", type: "submit" }, "Do it"),
          element("button", { class: "button", type: "button", click: () => this.#dialog.close() }, "Cancel"),
        ),
      ),
    );
    this.#dialog.showModal();
  }
}

/** The rows of a table that are not all zero, one per line. */
function columns(table: LiveTable): HTMLDetailsElement {
  const count = table.columns[0]?.values.length ?? 0;
  const rows = Array.from({ length: count }, (_, row) => row).filter((row) => table.columns.some((column) => column.values[row] !== 0));
  const head = table.columns.map((column) => element("th", { scope: "col", class: column.hidden ? "hidden" : "", title: column.hidden ? "never sent to clients" : "" }, column.name));
  const lines = rows.slice(0, MOST_ROWS).map((row) =>
    element("tr", {}, element("th", { scope: "row" }, String(row)), ...table.columns.map((column) => element("td", {}, shown(column.values[row] ?? 0)))),
  );
  const rest = rows.length > MOST_ROWS ? `, ${MOST_ROWS} shown` : "";
  return element(
    "details",
    { open: true, "data-table": table.name },
    element("summary", {}, element("b", {}, table.name), ` ${rows.length} of ${count} rows in use${rest}`),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "row"), ...head)), element("tbody", {}, ...lines))),
  );
}

function shown(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(2);
}
