// All rooms, most players first; a row opens its room.
import type { ListLiveRoomsResponse, LiveRoom } from "../gen/rallypoint/v1/admin_pb";
import { element, refill, say } from "../page/element";

const HEAD = ["Room", "Game", "Node", "Players", "Age", "Tick ms", "p99", "Late ms", "Bytes/s", "Code"] as const;

export class RoomTable {
  readonly element: HTMLElement;
  readonly #onChoose: (roomId: string) => void;
  readonly #summary = element("p", { class: "summary" }, "Asking…");
  readonly #rows = element("tbody");
  readonly #known = new Map<string, HTMLTableRowElement>();

  constructor(onChoose: (roomId: string) => void) {
    this.#onChoose = onChoose;
    this.element = element(
      "section",
      { class: "panel rooms", "aria-label": "Rooms" },
      element("h2", {}, "Live rooms"),
      this.#summary,
      element(
        "div",
        { class: "scroll" },
        element("table", {}, element("thead", {}, element("tr", {}, ...HEAD.map((name) => element("th", { scope: "col" }, name)))), this.#rows),
      ),
    );
  }

  show(found: ListLiveRoomsResponse, chosen: string): void {
    const players = found.rooms.reduce((sum, room) => sum + room.connected, 0);
    const silent = found.nodes.filter((node) => !node.answers).map((node) => node.nodeId);
    const more = found.totalRooms > found.rooms.length ? `, ${found.rooms.length} shown` : "";
    const missing = silent.length > 0 ? ` · no answer from ${silent.join(", ")}` : "";
    say(this.#summary, `${many(found.totalRooms, "room")}${more} · ${many(players, "player")} · ${many(found.nodes.length, "node")}${missing}`);
    const rows = found.rooms.map((room) => this.#row(room, room.roomId === chosen));
    for (const roomId of this.#known.keys()) {
      if (!found.rooms.some((room) => room.roomId === roomId)) this.#known.delete(roomId);
    }
    // Rows are kept as they are while their order is: moving one would take its focus away.
    const same = rows.length === this.#rows.children.length && rows.every((row, at) => row === this.#rows.children[at]);
    if (!same) refill(this.#rows, ...rows);
  }

  #row(room: LiveRoom, chosen: boolean): HTMLTableRowElement {
    let row = this.#known.get(room.roomId);
    if (!row) {
      const open = element("button", { class: "link", type: "button", "data-room": room.roomId, click: () => this.#onChoose(room.roomId) }, short(room.roomId));
      row = element("tr", {}, element("th", { scope: "row" }, open), ...HEAD.slice(1).map(() => element("td")));
      this.#known.set(room.roomId, row);
    }
    row.classList.toggle("chosen", chosen);
    const cells = [
      room.game,
      room.nodeId,
      `${room.connected}/${room.maxPlayers}${room.locked ? " locked" : ""}`,
      age(room.ageS),
      room.tickMs.toFixed(2),
      room.tickP99Ms.toFixed(2),
      room.lagMs.toFixed(1),
      room.bytesPerS.toFixed(0),
      room.code || "–",
    ];
    cells.forEach((text, at) => say(row.children[at + 1] as HTMLElement, text));
    return row;
  }
}

export function short(roomId: string): string {
  return roomId.length > 12 ? `${roomId.slice(0, 10)}…` : roomId;
}

function many(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

function age(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  return minutes > 0 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}
