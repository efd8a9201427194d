// What a game shows: given the connection, it draws frames and makes inputs or messages.
import type { SeatInfo, Welcome } from "../gen/rallypoint/v1/room_pb";
import type { Tables } from "../room/columns";
import type { FrameUpdate, GameEvent, RoomConnection } from "../room/connection";

export interface GameContext {
  readonly connection: RoomConnection;
  readonly welcome: Welcome;
  /** Who sits where; changes while playing. */
  readonly seats: ReadonlyMap<number, SeatInfo>;
  /** The player prefers less motion. */
  readonly calm: boolean;
}

export interface GameView {
  readonly element: HTMLElement;
  /** The stream was opened anew: tables and slots may have other numbers. */
  rejoined(welcome: Welcome): void;
  frame(update: FrameUpdate): void;
  /** Distance by which the last frame corrected the prediction; undefined when nothing is predicted. */
  predictionError(): number | undefined;
  /** Plain facts about what is shown, for tests. */
  facts(): Readonly<Record<string, unknown>>;
  dispose(): void;
}

/** What a replay of a game is shown in. */
export interface ReplayContext {
  readonly seats: ReadonlyMap<number, SeatInfo>;
  readonly tickHz: number;
  readonly calm: boolean;
}

/** The state at a place of a recording. */
export interface ReplayFrame {
  readonly atMs: number;
  readonly tick: number;
  readonly tables: Tables;
  /** None while a place is sought. */
  readonly events: readonly GameEvent[];
}

/** Shows a game that is not played: frames in order, until `reset` says that the next is elsewhere. */
export interface ReplayView {
  readonly element: HTMLElement;
  /** Whose window is shown; undefined: everything. */
  readonly followed: number | undefined;
  follow?(slot: number | undefined): void;
  reset(): void;
  frame(frame: ReplayFrame): void;
  /** Draw a place between the frames; `nowMs` is performance.now(). */
  draw(atMs: number, nowMs: number): void;
  /** Plain facts about what is shown, for tests. */
  facts(): Readonly<Record<string, unknown>>;
  dispose(): void;
}

export type ReplayViewFactory = (context: ReplayContext) => ReplayView;

export type GameViewFactory = (context: GameContext) => GameView;

/** The name shown for a seat. */
export function nameOf(seats: ReadonlyMap<number, SeatInfo>, slot: number): string {
  return seats.get(slot)?.displayName || `Player ${slot + 1}`;
}

/** One color per seat, told apart also by people who see red and green alike (lightness varies). */
export const SEAT_COLORS = [
  "#ff6a3d",
  "#3dc8ff",
  "#ffd166",
  "#b48bff",
  "#7ee081",
  "#ff8fc7",
  "#4df0d0",
  "#c9d4e0",
] as const;

export function colorOf(slot: number): string {
  return SEAT_COLORS[slot % SEAT_COLORS.length] ?? SEAT_COLORS[0];
}
