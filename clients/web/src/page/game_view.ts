// What a game shows: given the connection, it draws frames and makes inputs or messages.
import type { SeatInfo, Welcome } from "../gen/rallypoint/v1/room_pb";
import type { FrameUpdate, RoomConnection } from "../room/connection";

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
