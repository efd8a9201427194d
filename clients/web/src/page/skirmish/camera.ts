// What part of the arena is seen: all of it where it fits, else a window that follows the player.
import { HEIGHT, WIDTH } from "./rules";

export interface Camera {
  /** CSS pixels per unit. */
  readonly scale: number;
  /** The unit at the surface's left upper corner. */
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** All of the arena is on the screen. */
  readonly whole: boolean;
}

/** Below this a player is too small to aim at. */
const LEAST_SCALE = 0.64;
const PADDING = 12;
/** Bars above and below the arena; a narrow window lays its controls over the ground instead. */
const BARS = { top: 58, bottom: 54 };
const NARROW_BARS = { top: 96, bottom: 0 };
const NARROW = 704;

export function cameraOf(width: number, height: number, self: { readonly x: number; readonly y: number }): Camera {
  const bars = width < NARROW ? NARROW_BARS : BARS;
  const free = height - bars.top - bars.bottom;
  const fitting = Math.min((width - 2 * PADDING) / WIDTH, (free - 2 * PADDING) / HEIGHT);
  const scale = Math.max(fitting, LEAST_SCALE);
  const axis = (size: number, world: number, at: number): number => {
    const seen = size / scale;
    const pad = PADDING / scale;
    if (seen >= world) return (world - seen) / 2;
    return Math.min(Math.max(at - seen / 2, -pad), world - seen + pad);
  };
  return {
    scale,
    width,
    height,
    left: axis(width, WIDTH, self.x),
    top: axis(free, HEIGHT, self.y) - bars.top / scale,
    whole: fitting >= LEAST_SCALE,
  };
}

export function onSurface(camera: Camera, place: { readonly x: number; readonly y: number }): { x: number; y: number } {
  return { x: (place.x - camera.left) * camera.scale, y: (place.y - camera.top) * camera.scale };
}
