// One frame's state of the arena, copied out of the tables so that it can be kept and mixed.
import type { Tables } from "../../room/columns";
import { SHOTS_EACH, SHOT_STEP, radians } from "./rules";

export interface Player {
  readonly slot: number;
  readonly x: number;
  readonly y: number;
  readonly angle: number;
  readonly health: number;
  readonly score: number;
  readonly deaths: number;
  readonly boosted: boolean;
  /** Has or had a seat in this room. */
  readonly seated: boolean;
  /** Its stream is broken; the seat is kept. */
  readonly away: boolean;
}

export interface Shot {
  readonly owner: number;
  readonly x: number;
  readonly y: number;
  readonly angle: number;
  readonly born: number;
}

export interface Item {
  readonly x: number;
  readonly y: number;
  readonly kind: number;
}

export interface World {
  readonly tick: number;
  readonly players: readonly Player[];
  readonly shots: readonly Shot[];
  readonly items: readonly Item[];
  /** The tick at which time is up. */
  readonly ends: number;
}

const DROPPED = 3;
const LEFT = 4;

export function worldOf(tables: Tables, tick: number): World {
  return {
    tick,
    players: playersOf(tables),
    shots: shotsOf(tables),
    items: itemsOf(tables),
    ends: tables.table("match").get("ends", 0),
  };
}

function playersOf(tables: Tables): Player[] {
  const players = tables.table("players");
  const states = tables.table("seats").column("state");
  return Array.from({ length: players.rows }, (_, slot) => ({
    slot,
    x: players.get("x", slot),
    y: players.get("y", slot),
    angle: radians(players.get("aim", slot)),
    health: players.get("health", slot),
    score: players.get("score", slot),
    deaths: players.get("deaths", slot),
    boosted: players.get("boost", slot) !== 0,
    seated: (states[slot] ?? 0) !== 0 && states[slot] !== LEFT,
    away: states[slot] === DROPPED,
  }));
}

function shotsOf(tables: Tables): Shot[] {
  const shots = tables.table("shots");
  const found: Shot[] = [];
  for (let row = 0; row < shots.rows; row++) {
    if (shots.get("live", row) === 0) continue;
    found.push({
      owner: Math.floor(row / SHOTS_EACH),
      x: shots.get("x", row),
      y: shots.get("y", row),
      angle: radians(shots.get("aim", row)),
      born: shots.get("born", row),
    });
  }
  return found;
}

function itemsOf(tables: Tables): Item[] {
  const items = tables.table("items");
  return Array.from({ length: items.rows }, (_, row) => ({
    x: items.get("x", row),
    y: items.get("y", row),
    kind: items.get("kind", row),
  })).filter((item) => item.kind !== 0);
}

/** How far a shot has flown at a time in ticks; negative before it was fired. */
export function flown(shot: Shot, tick: number): number {
  const whole = Math.floor(tick);
  const age = ((whole - shot.born) & 0xffff) + (tick - whole);
  return (age > 0x8000 ? age - 0x10000 : age) * SHOT_STEP;
}
