// Draws one picture of the arena. Everything it shows is given; it keeps only the floor.
import { colorOf } from "../game_view";
import { onSurface } from "./camera";
import type { Camera } from "./camera";
import { STICK_RADIUS } from "./controls";
import type { Controls, Stick } from "./controls";
import type { Effects } from "./effects";
import { drawFloor, floorOf } from "./floor";
import { HEALTH_ITEM, HEIGHT, MAX_HEALTH, RADIUS, SHOT_STEP, SHOT_TICKS, WIDTH } from "./rules";
import type { Item, Player } from "./world";

/** A shot where it is now. */
export interface Flight {
  readonly owner: number;
  readonly x: number;
  readonly y: number;
  readonly angle: number;
  /** Units it has flown. */
  readonly flown: number;
}

export interface Scene {
  readonly camera: Camera;
  readonly nowMs: number;
  readonly elapsedMs: number;
  readonly self: number;
  readonly players: readonly Player[];
  readonly flights: readonly Flight[];
  readonly items: readonly Item[];
  readonly names: (slot: number) => string;
  readonly effects: Effects;
  /** None when nobody plays here. */
  readonly controls?: Controls;
  readonly calm: boolean;
}

export class Picture {
  readonly canvas = document.createElement("canvas");
  readonly #pen: CanvasRenderingContext2D;
  #floor: HTMLCanvasElement | undefined;
  #floorScale = 0;
  #density = 1;

  constructor() {
    const pen = this.canvas.getContext("2d", { alpha: false });
    if (!pen) throw new Error("this browser draws no canvas");
    this.#pen = pen;
  }

  /** Fit the canvas to its box and the screen's pixels. */
  resize(width: number, height: number): void {
    this.#density = Math.min(globalThis.devicePixelRatio || 1, 3);
    const [across, down] = [Math.round(width * this.#density), Math.round(height * this.#density)];
    if (this.canvas.width !== across) this.canvas.width = across;
    if (this.canvas.height !== down) this.canvas.height = down;
  }

  draw(scene: Scene): void {
    const pen = this.#pen;
    const { camera } = scene;
    const scale = camera.scale * this.#density;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = "#06141a";
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const shake = scene.effects.shake(scene.nowMs);
    pen.setTransform(scale, 0, 0, scale, (shake.x - camera.left) * scale, (shake.y - camera.top) * scale);
    drawFloor(pen, this.#floorAt(scale));
    for (const item of scene.items) drawItem(pen, item, scene);
    for (const flight of scene.flights) drawFlight(pen, flight);
    // Oneself last, so that nobody hides one's own place.
    const drawn = scene.players.toSorted((a, b) => Number(a.slot === scene.self) - Number(b.slot === scene.self));
    for (const player of drawn) if (player.health > 0) drawPlayer(pen, player, scene);
    scene.effects.draw(pen, scene.nowMs, scene.elapsedMs);
    pen.setTransform(this.#density, 0, 0, this.#density, 0, 0);
    if (!camera.whole) for (const player of scene.players) drawPointer(pen, player, scene);
    drawHurt(pen, scene);
    if (scene.controls?.touched) drawSticks(pen, scene.camera, scene.controls);
  }

  #floorAt(scale: number): HTMLCanvasElement {
    if (!this.#floor || Math.abs(this.#floorScale - scale) > 1e-3) {
      this.#floor = floorOf(scale);
      this.#floorScale = scale;
    }
    return this.#floor;
  }
}

function drawItem(pen: CanvasRenderingContext2D, item: Item, scene: Scene): void {
  const health = item.kind === HEALTH_ITEM;
  const color = health ? "#8ff0a4" : "#ffd166";
  const beat = scene.calm ? 0 : Math.sin(scene.nowMs / 320 + item.x) * 1.6;
  pen.save();
  pen.translate(item.x, item.y);
  pen.fillStyle = health ? "rgba(143, 240, 164, 0.14)" : "rgba(255, 209, 102, 0.14)";
  disc(pen, 0, 0, 22 + beat);
  pen.fill();
  pen.strokeStyle = color;
  pen.lineWidth = 2;
  pen.stroke();
  pen.fillStyle = color;
  if (health) {
    pen.fillRect(-3, -10, 6, 20);
    pen.fillRect(-10, -3, 20, 6);
  } else {
    polygon(pen, [3, -13, -8, 3, -1, 3, -3, 13, 8, -3, 1, -3]);
    pen.fill();
  }
  pen.restore();
}

function drawFlight(pen: CanvasRenderingContext2D, flight: Flight): void {
  const tail = Math.min(flight.flown, 58);
  const [cos, sin] = [Math.cos(flight.angle), Math.sin(flight.angle)];
  const fade = Math.max(0.35, 1 - flight.flown / (SHOT_STEP * SHOT_TICKS));
  const color = colorOf(flight.owner);
  const trail = pen.createLinearGradient(flight.x - cos * tail, flight.y - sin * tail, flight.x, flight.y);
  trail.addColorStop(0, `${color}00`);
  trail.addColorStop(1, color);
  pen.globalAlpha = fade;
  pen.strokeStyle = trail;
  pen.lineWidth = 5;
  pen.lineCap = "round";
  line(pen, flight.x - cos * tail, flight.y - sin * tail, flight.x, flight.y);
  pen.strokeStyle = "#fffaf0";
  pen.lineWidth = 2.4;
  line(pen, flight.x - cos * 12, flight.y - sin * 12, flight.x, flight.y);
  pen.globalAlpha = 1;
}

function drawPlayer(pen: CanvasRenderingContext2D, player: Player, scene: Scene): void {
  const own = player.slot === scene.self;
  const color = colorOf(player.slot);
  pen.save();
  pen.translate(player.x, player.y);
  pen.globalAlpha = player.away ? 0.45 : 1;
  if (player.boosted) drawBoost(pen, scene);
  pen.fillStyle = "rgba(2, 10, 14, 0.4)";
  disc(pen, 3, 5, RADIUS + 1);
  pen.fill();
  pen.rotate(player.angle);
  pen.fillStyle = own ? "#ffffff" : "#d8e6e6";
  pen.beginPath();
  pen.roundRect(6, -5, RADIUS + 8, 10, 4);
  pen.fill();
  pen.fillStyle = color;
  disc(pen, 0, 0, RADIUS);
  pen.fill();
  pen.fillStyle = "rgba(6, 20, 26, 0.28)";
  disc(pen, 0, 0, RADIUS * 0.52);
  pen.fill();
  pen.strokeStyle = own ? "#ffffff" : "rgba(6, 20, 26, 0.65)";
  pen.lineWidth = own ? 3 : 2;
  disc(pen, 0, 0, RADIUS);
  pen.stroke();
  pen.rotate(-player.angle);
  drawLabel(pen, player, scene, own);
  pen.restore();
}

function drawBoost(pen: CanvasRenderingContext2D, scene: Scene): void {
  const turn = scene.calm ? 0 : scene.nowMs / 400;
  pen.strokeStyle = "#ffd166";
  pen.lineWidth = 3;
  for (let at = 0; at < 3; at++) {
    pen.beginPath();
    pen.arc(0, 0, RADIUS + 8, turn + at * 2.1, turn + at * 2.1 + 1.2);
    pen.stroke();
  }
}

function drawLabel(pen: CanvasRenderingContext2D, player: Player, scene: Scene, own: boolean): void {
  const wide = 46;
  const part = player.health / MAX_HEALTH;
  pen.fillStyle = "rgba(6, 20, 26, 0.75)";
  pen.beginPath();
  pen.roundRect(-wide / 2 - 2, -RADIUS - 17, wide + 4, 9, 4);
  pen.fill();
  pen.fillStyle = part > 0.6 ? "#8ff0a4" : part > 0.3 ? "#ffd166" : "#ff5d5d";
  pen.beginPath();
  pen.roundRect(-wide / 2, -RADIUS - 15, wide * part, 5, 2.5);
  pen.fill();
  const size = Math.max(15, 12 / scene.camera.scale);
  pen.font = `${own ? 700 : 600} ${size}px Saira, system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeStyle = "rgba(6, 20, 26, 0.85)";
  const text = scene.names(player.slot);
  pen.strokeText(text, 0, -RADIUS - 23);
  pen.fillStyle = own ? "#ffffff" : "#cfe4e0";
  pen.fillText(text, 0, -RADIUS - 23);
}

/** An arrow at the edge toward somebody out of sight. */
function drawPointer(pen: CanvasRenderingContext2D, player: Player, scene: Scene): void {
  if (player.health === 0 || player.slot === scene.self) return;
  const { camera } = scene;
  const place = onSurface(camera, player);
  const free = camera.height - camera.bars.top - camera.bars.bottom;
  const [midX, midY] = [camera.width / 2, camera.bars.top + free / 2];
  const inside = Math.abs(place.x - midX) < midX && Math.abs(place.y - midY) < free / 2;
  if (inside) return;
  const angle = Math.atan2(place.y - midY, place.x - midX);
  const reach = Math.min((midX - 20) / Math.abs(Math.cos(angle) || 1e-6), (free / 2 - 14) / Math.abs(Math.sin(angle) || 1e-6));
  pen.save();
  pen.translate(midX + Math.cos(angle) * reach, midY + Math.sin(angle) * reach);
  pen.rotate(angle);
  pen.fillStyle = colorOf(player.slot);
  polygon(pen, [12, 0, -8, -9, -3, 0, -8, 9]);
  pen.fill();
  pen.restore();
}

function drawHurt(pen: CanvasRenderingContext2D, scene: Scene): void {
  const left = 1 - (scene.nowMs - scene.effects.hurtMs) / 420;
  if (left <= 0) return;
  const { width, height } = scene.camera;
  const red = pen.createRadialGradient(width / 2, height / 2, Math.min(width, height) * 0.35, width / 2, height / 2, Math.hypot(width, height) / 2);
  red.addColorStop(0, "rgba(255, 70, 60, 0)");
  red.addColorStop(1, `rgba(255, 70, 60, ${0.42 * left})`);
  pen.fillStyle = red;
  pen.fillRect(0, 0, width, height);
}

function drawSticks(pen: CanvasRenderingContext2D, camera: Camera, controls: Controls): void {
  const { width, height } = camera;
  const { moveStick, aimStick } = controls;
  const rest = 92;
  drawStick(pen, moveStick, { x: 92, y: height - rest, label: "Move" });
  drawStick(pen, aimStick, { x: width - 92, y: height - rest, label: "Fire" });
}

function drawStick(pen: CanvasRenderingContext2D, stick: Stick | undefined, rest: { x: number; y: number; label: string }): void {
  const { x, y } = stick ?? rest;
  pen.lineWidth = 2;
  pen.strokeStyle = stick ? "rgba(233, 246, 241, 0.6)" : "rgba(233, 246, 241, 0.28)";
  pen.fillStyle = "rgba(6, 20, 26, 0.35)";
  disc(pen, x, y, STICK_RADIUS);
  pen.fill();
  pen.stroke();
  const pull = stick ? Math.min(1, STICK_RADIUS / (Math.hypot(stick.dx, stick.dy) || 1)) : 0;
  pen.fillStyle = rest.label === "Fire" ? "rgba(255, 106, 61, 0.75)" : "rgba(233, 246, 241, 0.5)";
  disc(pen, x + (stick?.dx ?? 0) * pull, y + (stick?.dy ?? 0) * pull, 24);
  pen.fill();
  if (stick) return;
  pen.fillStyle = "#06141a";
  pen.font = "700 13px Saira, system-ui, sans-serif";
  pen.textAlign = "center";
  pen.fillText(rest.label, x, y + 5);
}

function disc(pen: CanvasRenderingContext2D, x: number, y: number, r: number): void {
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
}

function line(pen: CanvasRenderingContext2D, x: number, y: number, toX: number, toY: number): void {
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(toX, toY);
  pen.stroke();
}

function polygon(pen: CanvasRenderingContext2D, places: readonly number[]): void {
  pen.beginPath();
  for (let at = 0; at + 1 < places.length; at += 2) pen.lineTo(places[at] ?? 0, places[at + 1] ?? 0);
  pen.closePath();
}

/** Whether a place is within the arena, for shots that have flown out. */
export function withinArena(x: number, y: number): boolean {
  return x >= 0 && x <= WIDTH && y >= 0 && y <= HEIGHT;
}
