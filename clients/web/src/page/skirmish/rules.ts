// The arithmetic of services/rallypoint/games/skirmish.py, for prediction. Same order, same doubles.

export const WIDTH = 1600;
export const HEIGHT = 900;
export const RADIUS = 18;
export const STEP = 13;
export const OBSTACLES = [
  [400, 250, 60],
  [1200, 250, 60],
  [800, 450, 90],
  [400, 650, 60],
  [1200, 650, 60],
] as const;
export const MAX_HEALTH = 100;
export const SHOT_STEP = 45;
export const SHOT_TICKS = 15;
export const SHOTS_EACH = 3;
export const FIRE_TICKS = 5;
export const RESPAWN_TICKS = 40;
export const HEALTH_ITEM = 1;
export const TURN = 65536;

/** Event numbers. */
export const HIT = 1;
export const KILL = 2;
export const PICKUP = 3;
export const SPAWN = 4;

/** One input, as the server reads it. */
export interface Move {
  readonly dx: number;
  readonly dy: number;
  readonly aim: number;
  readonly fire: number;
}

export interface Body {
  readonly x: number;
  readonly y: number;
  readonly alive: boolean;
}

/** One tick of one player. */
export function step(body: Body, move: Move): Body {
  if (!body.alive) return body;
  const dx = move.dx / 100;
  const dy = move.dy / 100;
  const over = Math.max(Math.sqrt(dx * dx + dy * dy), 1);
  let x = Math.min(Math.max(body.x + (dx / over) * STEP, RADIUS), WIDTH - RADIUS);
  let y = Math.min(Math.max(body.y + (dy / over) * STEP, RADIUS), HEIGHT - RADIUS);
  for (const [ox, oy, r] of OBSTACLES) {
    const reach = r + RADIUS;
    const ex = x - ox;
    const ey = y - oy;
    const d2 = ex * ex + ey * ey;
    if (d2 < reach * reach) {
      const factor = reach / Math.sqrt(d2);
      x = ox + ex * factor;
      y = oy + ey * factor;
    }
  }
  return { x, y, alive: true };
}

/** Radians of an aim, and back. */
export function radians(aim: number): number {
  return (aim * 2 * Math.PI) / TURN;
}

export function aimOf(angle: number): number {
  return Math.round((angle / (2 * Math.PI)) * TURN) & (TURN - 1);
}
