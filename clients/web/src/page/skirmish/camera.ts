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
  /** CSS pixels above and below that belong to the figures and the controls. */
  readonly bars: { readonly top: number; readonly bottom: number; readonly side: number };
}

/** Below this a player is too small to aim at. */
const LEAST_SCALE = 0.64;
/** Room around the arena, in CSS pixels, for figures and thumbs. */
const BARS = { top: 58, bottom: 54, side: 12 };
const NARROW_BARS = { top: 112, bottom: 156, side: 12 };
const FLAT_BARS = { top: 52, bottom: 12, side: 176 };
const EDGE = 12;
const NARROW = 704;
const FLAT = 500;

export function cameraOf(width: number, height: number, self: { readonly x: number; readonly y: number }): Camera {
  const bars = height < FLAT ? FLAT_BARS : width < NARROW ? NARROW_BARS : BARS;
  const free = height - bars.top - bars.bottom;
  const fitting = Math.min((width - 2 * bars.side) / WIDTH, (free - 2 * EDGE) / HEIGHT);
  const scale = Math.max(fitting, LEAST_SCALE);
  const axis = (size: number, world: number, at: number, margin: number): number => {
    const seen = size / scale;
    const pad = margin / scale;
    if (seen >= world) return (world - seen) / 2;
    return Math.min(Math.max(at - seen / 2, -pad), world - seen + pad);
  };
  return {
    scale,
    width,
    height,
    left: axis(width, WIDTH, self.x, bars.side),
    top: axis(free, HEIGHT, self.y, EDGE) - bars.top / scale,
    whole: fitting >= LEAST_SCALE,
    bars,
  };
}

export function onSurface(camera: Camera, place: { readonly x: number; readonly y: number }): { x: number; y: number } {
  return { x: (place.x - camera.left) * camera.scale, y: (place.y - camera.top) * camera.scale };
}
