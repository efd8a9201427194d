// Skirmish seen by nobody in it: the whole arena, or a window that follows a player.
import { mixed, mixedAngle } from "../../play/interpolator";
import type { GameEvent } from "../../room/connection";
import { element } from "../element";
import { colorOf, nameOf } from "../game_view";
import type { ReplayContext, ReplayFrame, ReplayView } from "../game_view";
import { cameraOf } from "./camera";
import type { Camera } from "./camera";
import { Effects } from "./effects";
import { Overlay, chip } from "./overlay";
import { Picture, withinArena } from "./picture";
import type { Flight } from "./picture";
import { HEALTH_ITEM, HEIGHT, HIT, KILL, PICKUP, RADIUS, SPAWN, WIDTH } from "./rules";
import { flown, worldOf } from "./world";
import type { Player, World } from "./world";

const KEPT = 64;
/** A longer way between two frames is a respawn, not a journey. */
const SNAP_DISTANCE = 90;
const NOBODY = -1;
const MARGIN = 10;
/** Room for the clock above and the scores below, where there is width to spare. */
const BARS = 46;
const NARROW = 704;

interface Moment {
  readonly atMs: number;
  readonly tick: number;
  readonly world: World;
}

export function skirmishReplay(context: ReplayContext): ReplayView {
  return new SkirmishReplay(context);
}

class SkirmishReplay implements ReplayView {
  readonly element: HTMLElement;
  readonly #context: ReplayContext;
  readonly #picture = new Picture();
  readonly #overlay = new Overlay(false);
  readonly #effects: Effects;
  readonly #resized: ResizeObserver;
  #moments: Moment[] = [];
  #size = { width: 1, height: 1 };
  #shown: World | undefined;
  #lastMs = 0;
  followed: number | undefined;

  constructor(context: ReplayContext) {
    this.#context = context;
    this.#effects = new Effects(context.calm);
    this.#picture.canvas.className = "arena";
    this.#picture.canvas.setAttribute("role", "img");
    this.#picture.canvas.setAttribute("aria-label", "The arena");
    this.element = element("div", { class: "skirmish-view" }, this.#picture.canvas, this.#overlay.element);
    this.#resized = new ResizeObserver(() => this.#measure());
    this.#resized.observe(this.element);
  }

  reset(): void {
    this.#moments = [];
  }

  follow(slot: number | undefined): void {
    this.followed = slot;
  }

  frame({ atMs, tick, tables, events }: ReplayFrame): void {
    const world = worldOf(tables, tick);
    this.#moments.push({ atMs, tick, world });
    if (this.#moments.length > KEPT) this.#moments.shift();
    for (const event of events) this.#happened(event, world);
  }

  draw(atMs: number, nowMs: number): void {
    const elapsedMs = Math.min(100, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    const found = this.#between(atMs);
    if (!found) return;
    const { from, to, mix } = found;
    this.#shown = mix < 1 ? from.world : to.world;
    const players = between(from.world, to.world, mix);
    this.#picture.draw({
      camera: this.#camera(players),
      nowMs,
      elapsedMs,
      self: this.followed ?? NOBODY,
      players,
      flights: flights(this.#shown, mixed(from.tick, to.tick, mix)),
      items: this.#shown.items,
      names: this.#names,
      effects: this.#effects,
      calm: this.#context.calm,
    });
    this.#overlay.time((this.#shown.ends - from.tick) / this.#context.tickHz);
    this.#overlay.scores(this.#shown.players, this.followed ?? NOBODY, this.#names);
  }

  facts(): Readonly<Record<string, unknown>> {
    return { world: this.#shown, followed: this.followed };
  }

  dispose(): void {
    this.#resized.disconnect();
  }

  readonly #names = (slot: number): string => nameOf(this.#context.seats, slot);

  #measure(): void {
    this.#size = { width: this.element.clientWidth, height: this.element.clientHeight };
    this.#picture.resize(this.#size.width, this.#size.height);
  }

  #between(atMs: number): { from: Moment; to: Moment; mix: number } | undefined {
    const next = this.#moments.findIndex((moment) => moment.atMs > atMs);
    const to = this.#moments[next] ?? this.#moments.at(-1);
    const from = this.#moments[next - 1] ?? (next === 0 ? to : this.#moments.at(-1));
    if (!from || !to) return undefined;
    const span = to.atMs - from.atMs;
    // Over a gap there is nothing in between to be shown.
    const near = span > 0 && to.tick > from.tick && span < 500;
    return { from, to, mix: near ? Math.min(1, Math.max(0, (atMs - from.atMs) / span)) : 0 };
  }

  #camera(players: readonly Player[]): Camera {
    const { width, height } = this.#size;
    const followed = this.followed === undefined ? undefined : players[this.followed];
    if (followed) return cameraOf(width, height, followed);
    const bars = width < NARROW ? MARGIN : BARS;
    const scale = Math.min((width - 2 * MARGIN) / WIDTH, (height - 2 * bars) / HEIGHT);
    const [left, top] = [(WIDTH - width / scale) / 2, (HEIGHT - height / scale) / 2];
    return { scale, left, top, width, height, whole: true, bars: { top: 0, bottom: 0, side: 0 } };
  }

  #happened(event: GameEvent, world: World): void {
    const [first = 0, second = 0, third = 0] = event.body;
    const nowMs = performance.now();
    const at = (slot: number): { x: number; y: number } => world.players[slot] ?? { x: 0, y: 0 };
    if (event.type === HIT) {
      this.#effects.burst(at(second).x, at(second).y, colorOf(second), nowMs, 10, 200);
      this.#effects.word(at(second).x, at(second).y, `−${third}`, "#ffe9df", nowMs);
    } else if (event.type === KILL) {
      this.#effects.burst(at(second).x, at(second).y, colorOf(second), nowMs, 34, 420);
      this.#effects.ring(at(second).x, at(second).y, colorOf(second), nowMs, 110);
      this.#overlay.news(chip(first, this.#names(first)), " took down ", chip(second, this.#names(second)));
    } else if (event.type === PICKUP) {
      const health = second === HEALTH_ITEM;
      this.#effects.word(at(first).x, at(first).y, health ? "+50" : "double damage", health ? "#8ff0a4" : "#ffd166", nowMs);
    } else if (event.type === SPAWN) {
      this.#effects.ring(at(first).x, at(first).y, colorOf(first), nowMs, 90);
    }
  }
}

function between(from: World, to: World, mix: number): Player[] {
  return from.players.map((player) => {
    const after = to.players[player.slot] ?? player;
    const far = Math.hypot(after.x - player.x, after.y - player.y) > SNAP_DISTANCE || player.health === 0;
    if (far) return player;
    return {
      ...player,
      x: mixed(player.x, after.x, mix),
      y: mixed(player.y, after.y, mix),
      angle: mixedAngle(player.angle, after.angle, mix),
    };
  });
}

function flights(world: World, tick: number): Flight[] {
  return world.shots.flatMap((shot) => {
    const distance = flown(shot, tick);
    const [x, y] = [shot.x + Math.cos(shot.angle) * distance, shot.y + Math.sin(shot.angle) * distance];
    if (distance < RADIUS || !withinArena(x, y)) return [];
    return [{ owner: shot.owner, x, y, angle: shot.angle, flown: distance - RADIUS }];
  });
}
