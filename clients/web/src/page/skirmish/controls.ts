// Keys, mouse and fingers become one intention: where to go, where to aim, whether to fire.

export interface Intention {
  /** -1 to 1 each; the two together at most 1 long. */
  readonly dx: number;
  readonly dy: number;
  /** Where to aim; undefined leaves it to the game (ahead, or at the nearest). */
  readonly angle: number | undefined;
  readonly fire: boolean;
}

/** A finger's stick: where it went down and how far it was pulled, in CSS pixels. */
export interface Stick {
  readonly id: number;
  readonly x: number;
  readonly y: number;
  dx: number;
  dy: number;
}

const KEYS: Readonly<Record<string, readonly [number, number]>> = {
  KeyW: [0, -1],
  ArrowUp: [0, -1],
  KeyS: [0, 1],
  ArrowDown: [0, 1],
  KeyA: [-1, 0],
  ArrowLeft: [-1, 0],
  KeyD: [1, 0],
  ArrowRight: [1, 0],
};
export const STICK_RADIUS = 56;
const DEAD_ZONE = 0.18;

export class Controls {
  readonly #surface: HTMLElement;
  readonly #held = new Set<string>();
  readonly #listeners = new AbortController();
  #mouse: { x: number; y: number } | undefined;
  #mouseDown = false;
  /** For drawing. */
  moveStick: Stick | undefined;
  aimStick: Stick | undefined;
  /** Fingers have been used: show the sticks' places. */
  touched = matchMedia("(pointer: coarse)").matches;

  constructor(surface: HTMLElement) {
    this.#surface = surface;
    const options = { signal: this.#listeners.signal };
    globalThis.addEventListener("keydown", (event) => this.#key(event, true), options);
    globalThis.addEventListener("keyup", (event) => this.#key(event, false), options);
    globalThis.addEventListener("blur", () => this.release(), options);
    document.addEventListener("visibilitychange", () => this.release(), options);
    surface.addEventListener("pointerdown", (event) => this.#down(event), options);
    surface.addEventListener("pointermove", (event) => this.#move(event), options);
    for (const name of ["pointerup", "pointercancel"] as const) {
      surface.addEventListener(name, (event) => this.#up(event), options);
    }
    surface.addEventListener("contextmenu", (event) => event.preventDefault(), options);
  }

  /** `self` is one's own place on the surface, in CSS pixels. */
  intention(self: { readonly x: number; readonly y: number }): Intention {
    const { dx, dy } = this.moveStick ? pulled(this.moveStick) : this.#keys();
    const fire = this.#mouseDown || this.#held.has("Space") || this.aimStick !== undefined;
    return { dx, dy, angle: this.#angle(self), fire };
  }

  /** Let go of everything: the page lost the keyboard. */
  release(): void {
    this.#held.clear();
    this.#mouseDown = false;
    this.moveStick = undefined;
    this.aimStick = undefined;
  }

  dispose(): void {
    this.#listeners.abort();
  }

  #angle(self: { readonly x: number; readonly y: number }): number | undefined {
    if (this.aimStick) {
      const { dx, dy } = pulled(this.aimStick);
      return dx === 0 && dy === 0 ? undefined : Math.atan2(dy, dx);
    }
    return this.#mouse ? Math.atan2(this.#mouse.y - self.y, this.#mouse.x - self.x) : undefined;
  }

  #keys(): { dx: number; dy: number } {
    const directions = [...this.#held].flatMap((code) => (KEYS[code] ? [KEYS[code]] : []));
    const dx = Math.sign(directions.reduce((sum, [x]) => sum + x, 0));
    const dy = Math.sign(directions.reduce((sum, [, y]) => sum + y, 0));
    const length = Math.hypot(dx, dy) || 1;
    return { dx: dx / length, dy: dy / length };
  }

  #key(event: KeyboardEvent, down: boolean): void {
    if (!(event.code in KEYS) && event.code !== "Space") return;
    if (document.querySelector("dialog[open]")) return;
    const onButton = event.code === "Space" && event.target instanceof HTMLButtonElement;
    if (onButton && down) return;
    if (down && (event.ctrlKey || event.metaKey || event.altKey)) return;
    event.preventDefault();
    if (down) this.#held.add(event.code);
    else this.#held.delete(event.code);
  }

  #place(event: PointerEvent): { x: number; y: number } {
    const box = this.#surface.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event: PointerEvent): void {
    const place = this.#place(event);
    if (event.pointerType === "mouse") {
      this.#mouse = place;
      this.#mouseDown = event.button === 0;
      return;
    }
    event.preventDefault();
    this.touched = true;
    this.#mouse = undefined;
    this.#surface.setPointerCapture(event.pointerId);
    const stick: Stick = { id: event.pointerId, ...place, dx: 0, dy: 0 };
    if (place.x < this.#surface.clientWidth / 2) this.moveStick ??= stick;
    else this.aimStick ??= stick;
  }

  #move(event: PointerEvent): void {
    const place = this.#place(event);
    if (event.pointerType === "mouse") {
      this.#mouse = place;
      return;
    }
    for (const stick of [this.moveStick, this.aimStick]) {
      if (stick?.id === event.pointerId) [stick.dx, stick.dy] = [place.x - stick.x, place.y - stick.y];
    }
  }

  #up(event: PointerEvent): void {
    if (event.pointerType === "mouse") this.#mouseDown = false;
    if (this.moveStick?.id === event.pointerId) this.moveStick = undefined;
    if (this.aimStick?.id === event.pointerId) this.aimStick = undefined;
  }
}

/** The pull of a stick, at most 1 long; 0 within its dead zone. */
function pulled(stick: Stick): { dx: number; dy: number } {
  const length = Math.hypot(stick.dx, stick.dy) / STICK_RADIUS;
  if (length < DEAD_ZONE) return { dx: 0, dy: 0 };
  const scale = 1 / (STICK_RADIUS * Math.max(1, length));
  return { dx: stick.dx * scale, dy: stick.dy * scale };
}
