// Skirmish on the screen: frames in, inputs out, pictures in between.
import type { Welcome } from "../../gen/rallypoint/v1/room_pb";
import { Interpolator, mixed, mixedAngle } from "../../play/interpolator";
import type { Moment } from "../../play/interpolator";
import { Reconciler } from "../../play/reconciler";
import { SendClock } from "../../play/send_clock";
import type { FrameUpdate, GameEvent } from "../../room/connection";
import { element } from "../element";
import { colorOf, nameOf } from "../game_view";
import type { GameContext, GameView } from "../game_view";
import { cameraOf, onSurface } from "./camera";
import { Controls } from "./controls";
import type { Intention } from "./controls";
import { Effects } from "./effects";
import { Overlay, chip } from "./overlay";
import { Picture, withinArena } from "./picture";
import type { Flight } from "./picture";
import { FIRE_TICKS, HIT, KILL, PICKUP, HEALTH_ITEM, RADIUS, RESPAWN_TICKS, SPAWN, aimOf, radians, step } from "./rules";
import type { Body, Move } from "./rules";
import { flown, worldOf } from "./world";
import type { Player, World } from "./world";

const SNAP_DISTANCE = 90;
/** After this much lag of the page itself inputs are not made up for. */
const MOST_LATE_MS = 150;

export function skirmishView(context: GameContext): GameView {
  return new SkirmishView(context);
}

class SkirmishView implements GameView {
  readonly element: HTMLElement;
  readonly #context: GameContext;
  readonly #picture = new Picture();
  readonly #controls: Controls;
  readonly #overlay: Overlay;
  readonly #effects: Effects;
  readonly #others: Interpolator<World>;
  readonly #own = new Reconciler<Body, Move>({ step, visible: (body) => [body.x, body.y], snapDistance: SNAP_DISTANCE });
  readonly #resized: ResizeObserver;
  #self: number;
  #inputHz: number;
  #tickHz: number;
  #world: World | undefined;
  #aim = 0;
  #size = { width: 1, height: 1 };
  #nextInputMs = performance.now();
  #sendClock: SendClock;
  #marginSecond = 0;
  #lastInputMs = 0;
  #lastPictureMs = performance.now();
  #readyToFireMs = 0;
  #downSinceTick: number | undefined;
  #downBy = "";
  #inputTimer: ReturnType<typeof setTimeout> | undefined;
  #picturing = 0;

  constructor(context: GameContext) {
    this.#context = context;
    this.#self = context.welcome.slot;
    this.#tickHz = context.welcome.tickHz;
    this.#inputHz = context.welcome.inputHz || context.welcome.tickHz;
    this.#others = new Interpolator<World>({ tickHz: context.welcome.tickHz });
    this.#sendClock = new SendClock(1000 / this.#tickHz);
    this.#effects = new Effects(context.calm);
    this.#picture.canvas.className = "arena";
    this.#picture.canvas.setAttribute("role", "img");
    this.#picture.canvas.setAttribute("aria-label", "The arena");
    this.#controls = new Controls(this.#picture.canvas);
    this.#overlay = new Overlay(this.#controls.touched);
    this.element = element("div", { class: "skirmish-view" }, this.#picture.canvas, this.#overlay.element);
    this.#resized = new ResizeObserver(() => this.#measure());
    this.#resized.observe(this.element);
    this.#scheduleInput();
    this.#picturing = requestAnimationFrame((nowMs) => this.#draw(nowMs));
  }

  rejoined(welcome: Welcome): void {
    this.#self = welcome.slot;
    this.#tickHz = welcome.tickHz;
    this.#inputHz = welcome.inputHz || welcome.tickHz;
    this.#sendClock = new SendClock(1000 / this.#tickHz);
    this.#others.reset();
    this.#own.reset();
  }

  frame(update: FrameUpdate): void {
    const world = worldOf(update.tables, update.tick);
    this.#world = world;
    this.#others.push(update.tick, world, update.atMs);
    const own = world.players[this.#self];
    if (own) this.#own.reconcile({ x: own.x, y: own.y, alive: own.health > 0 }, update.ackSeq);
    this.#heedMargin(update.tick);
    this.#overlay.scores(world.players, this.#self, this.#names);
    this.#overlay.health(own?.health ?? 0);
    for (const event of update.events) this.#happened(event, world);
    if (own && own.health > 0) this.#downSinceTick = undefined;
    else this.#downSinceTick ??= update.tick;
  }

  predictionError(): number {
    return this.#own.recentError;
  }

  facts(): Readonly<Record<string, unknown>> {
    const shown = this.#own.view(1);
    return {
      self: this.#self,
      shown: { x: shown[0], y: shown[1] },
      camera: this.#camera(),
      world: this.#world,
      names: Object.fromEntries([...this.#context.seats.keys()].map((slot) => [slot, this.#names(slot)])),
    };
  }

  dispose(): void {
    cancelAnimationFrame(this.#picturing);
    clearTimeout(this.#inputTimer);
    this.#resized.disconnect();
    this.#controls.dispose();
  }

  readonly #names = (slot: number): string => nameOf(this.#context.seats, slot);

  #measure(): void {
    this.#size = { width: this.element.clientWidth, height: this.element.clientHeight };
    this.#picture.resize(this.#size.width, this.#size.height);
  }

  // ---- inputs -------------------------------------------------------------------------------

  #scheduleInput(): void {
    const everyMs = 1000 / this.#inputHz + this.#sendClock.shiftMs();
    const nowMs = performance.now();
    this.#nextInputMs = nowMs - this.#nextInputMs > MOST_LATE_MS ? nowMs + everyMs : this.#nextInputMs + everyMs;
    this.#inputTimer = setTimeout(() => {
      this.#input();
      this.#scheduleInput();
    }, Math.max(0, this.#nextInputMs - nowMs));
  }

  /** The server tells once a second how early inputs come. */
  #heedMargin(tick: number): void {
    const second = Math.floor(tick / this.#tickHz);
    const { marginMs } = this.#context.connection.statistics();
    if (second === this.#marginSecond || Number.isNaN(marginMs)) return;
    this.#marginSecond = second;
    this.#sendClock.observe(marginMs);
  }

  #input(): void {
    const { connection } = this.#context;
    if (connection.state !== "live" || !this.#own.state) return;
    const intention = this.#controls.intention(onSurface(this.#camera(), this.#own.state));
    this.#aim = this.#aimed(intention);
    const wish = { dx: Math.round(intention.dx * 100), dy: Math.round(intention.dy * 100), aim: this.#aim, fire: Number(intention.fire) };
    if (wish.dx || wish.dy || wish.fire) this.#overlay.understood();
    const seq = connection.sendInput(wish, this.#others.at(performance.now())?.tick);
    this.#own.apply(seq, wish);
    this.#lastInputMs = performance.now();
    if (wish.fire) this.#flash();
  }

  /** Toward the pointer; else ahead while moving, toward the nearest while firing without aim. */
  #aimed(intention: Intention): number {
    if (intention.angle !== undefined) return aimOf(intention.angle);
    const nearest = intention.fire && this.#controls.aimStick ? this.#nearest() : undefined;
    if (nearest !== undefined) return aimOf(nearest);
    return intention.dx || intention.dy ? aimOf(Math.atan2(intention.dy, intention.dx)) : this.#aim;
  }

  #nearest(): number | undefined {
    const own = this.#own.state;
    const foes = (this.#world?.players ?? []).filter((player) => player.health > 0 && player.slot !== this.#self);
    if (!own || foes.length === 0) return undefined;
    const away = (player: Player): number => Math.hypot(player.x - own.x, player.y - own.y);
    const nearest = foes.reduce((best, player) => (away(player) < away(best) ? player : best));
    return Math.atan2(nearest.y - own.y, nearest.x - own.x);
  }

  /** Show one's own shot at once, before the server has confirmed it. */
  #flash(): void {
    const own = this.#own.state;
    const nowMs = performance.now();
    if (!own?.alive || nowMs < this.#readyToFireMs) return;
    this.#readyToFireMs = nowMs + (FIRE_TICKS * 1000) / this.#tickHz - 10;
    const angle = radians(this.#aim);
    const [x, y] = [own.x + Math.cos(angle) * (RADIUS + 16), own.y + Math.sin(angle) * (RADIUS + 16)];
    this.#effects.burst(x, y, "#fff1d6", nowMs, 4, 120);
  }

  // ---- events -------------------------------------------------------------------------------

  #happened(event: GameEvent, world: World): void {
    const [first = 0, second = 0, third = 0] = event.body;
    const nowMs = performance.now();
    const at = (slot: number): { x: number; y: number } => world.players[slot] ?? { x: 0, y: 0 };
    if (event.type === HIT) this.#hit(second, third, at(second), nowMs);
    else if (event.type === KILL) this.#kill(first, second, at(second), nowMs);
    else if (event.type === PICKUP) this.#pickup(first, second, at(first), nowMs);
    else if (event.type === SPAWN) this.#effects.ring(at(first).x, at(first).y, colorOf(first), nowMs, 90);
  }

  #hit(victim: number, damage: number, { x, y }: { x: number; y: number }, nowMs: number): void {
    this.#effects.burst(x, y, colorOf(victim), nowMs, 10, 200);
    this.#effects.word(x, y, `−${damage}`, "#ffe9df", nowMs);
    if (victim === this.#self) this.#effects.hurt(nowMs);
  }

  #kill(attacker: number, victim: number, { x, y }: { x: number; y: number }, nowMs: number): void {
    this.#effects.burst(x, y, colorOf(victim), nowMs, 34, 420);
    this.#effects.ring(x, y, colorOf(victim), nowMs, 110);
    this.#overlay.news(chip(attacker, this.#names(attacker)), " took down ", chip(victim, this.#names(victim)));
    if (victim === this.#self) this.#downBy = this.#names(attacker);
  }

  #pickup(slot: number, kind: number, { x, y }: { x: number; y: number }, nowMs: number): void {
    const health = kind === HEALTH_ITEM;
    const color = health ? "#8ff0a4" : "#ffd166";
    this.#effects.ring(x, y, color, nowMs, 54);
    this.#effects.word(x, y, health ? "+50" : "double damage", color, nowMs);
    if (!health) this.#overlay.news(chip(slot, this.#names(slot)), " has double damage");
  }

  // ---- pictures -----------------------------------------------------------------------------

  #camera() {
    const [x = 800, y = 450] = this.#own.view(1);
    return cameraOf(this.#size.width, this.#size.height, { x, y });
  }

  #draw(nowMs: number): void {
    this.#picturing = requestAnimationFrame((next) => this.#draw(next));
    const elapsedMs = Math.min(100, nowMs - this.#lastPictureMs);
    this.#lastPictureMs = nowMs;
    const world = this.#world;
    const moment = this.#others.at(nowMs);
    if (!world || !moment) return;
    this.#own.decay(elapsedMs);
    const alpha = Math.min(1, ((nowMs - this.#lastInputMs) * this.#inputHz) / 1000);
    const [x = 800, y = 450] = this.#own.view(alpha);
    const players = this.#players(moment, world, { x, y });
    const camera = cameraOf(this.#size.width, this.#size.height, { x, y });
    const present = this.#others.at(nowMs, 0);
    this.#picture.draw({
      camera,
      nowMs,
      elapsedMs,
      self: this.#self,
      players,
      flights: this.#flights(moment, present ?? moment),
      items: world.items,
      names: this.#names,
      effects: this.#effects,
      controls: this.#controls,
      calm: this.#context.calm,
    });
    this.#tell(present?.tick ?? world.tick, world);
  }

  #tell(tick: number, world: World): void {
    this.#overlay.time((world.ends - tick) / this.#tickHz);
    const since = this.#downSinceTick;
    const left = since === undefined ? undefined : (since + RESPAWN_TICKS - tick) / this.#tickHz;
    this.#overlay.down(left !== undefined && left > -1 ? left : undefined, this.#downBy);
  }

  /** Others between two past states, oneself where the prediction is. */
  #players({ from, to, mix }: Moment<World>, newest: World, own: { x: number; y: number }): Player[] {
    return to.players.map((player) => {
      const latest = newest.players[player.slot] ?? player;
      if (player.slot === this.#self) return { ...latest, ...own, angle: radians(this.#aim) };
      const before = from.players[player.slot] ?? player;
      // A respawn is a jump, not a journey.
      const far = Math.hypot(player.x - before.x, player.y - before.y) > SNAP_DISTANCE || before.health === 0;
      const part = far ? 1 : mix;
      return {
        ...player,
        x: mixed(before.x, player.x, part),
        y: mixed(before.y, player.y, part),
        angle: mixedAngle(before.angle, player.angle, part),
        health: latest.health === 0 ? 0 : player.health,
      };
    });
  }

  /** Others' shots in the past that others are drawn in, one's own in the present. */
  #flights(past: Moment<World>, present: Moment<World>): Flight[] {
    const shots = [
      ...past.from.shots.filter((shot) => shot.owner !== this.#self).map((shot) => ({ shot, tick: past.tick })),
      ...present.from.shots.filter((shot) => shot.owner === this.#self).map((shot) => ({ shot, tick: present.tick })),
    ];
    return shots.flatMap(({ shot, tick }) => {
      const distance = flown(shot, tick);
      const [x, y] = [shot.x + Math.cos(shot.angle) * distance, shot.y + Math.sin(shot.angle) * distance];
      if (distance < RADIUS || !withinArena(x, y)) return [];
      return [{ owner: shot.owner, x, y, angle: shot.angle, flown: distance - RADIUS }];
    });
  }
}
