// The arena's ground, drawn once per size: contour lines around the pillars, like a map.
import { HEIGHT, OBSTACLES, WIDTH } from "./rules";

const MARGIN = 40;

/** The ground as a picture of `scale` device pixels per unit, with a margin around the arena. */
export function floorOf(scale: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil((WIDTH + 2 * MARGIN) * scale);
  canvas.height = Math.ceil((HEIGHT + 2 * MARGIN) * scale);
  const pen = canvas.getContext("2d");
  if (!pen) return canvas;
  pen.scale(scale, scale);
  pen.translate(MARGIN, MARGIN);
  ground(pen);
  contours(pen);
  for (const [x, y, r] of OBSTACLES) pillar(pen, x, y, r);
  edge(pen);
  return canvas;
}

export function drawFloor(pen: CanvasRenderingContext2D, floor: HTMLCanvasElement): void {
  pen.drawImage(floor, -MARGIN, -MARGIN, WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN);
}

function ground(pen: CanvasRenderingContext2D): void {
  const light = pen.createRadialGradient(WIDTH / 2, HEIGHT / 2, 80, WIDTH / 2, HEIGHT / 2, 950);
  light.addColorStop(0, "#12343f");
  light.addColorStop(0.6, "#0d2630");
  light.addColorStop(1, "#091c24");
  pen.fillStyle = light;
  pen.beginPath();
  pen.roundRect(0, 0, WIDTH, HEIGHT, 26);
  pen.fill();
  pen.fillStyle = "rgba(170, 225, 220, 0.10)";
  for (let x = 50; x < WIDTH; x += 50) for (let y = 50; y < HEIGHT; y += 50) pen.fillRect(x - 1, y - 1, 2, 2);
}

/** Lines of equal height of a smooth landscape whose hills are the pillars: marching squares. */
function contours(pen: CanvasRenderingContext2D): void {
  const cell = 12;
  const levels = [0.34, 0.46, 0.6, 0.78, 1.0];
  pen.lineWidth = 1.2;
  pen.lineCap = "round";
  levels.forEach((level, at) => {
    pen.strokeStyle = `rgba(120, 214, 205, ${0.07 + at * 0.022})`;
    pen.beginPath();
    for (let x = 0; x < WIDTH; x += cell) for (let y = 0; y < HEIGHT; y += cell) march(pen, x, y, cell, level);
    pen.stroke();
  });
}

function heightAt(x: number, y: number): number {
  const hills = OBSTACLES.reduce((sum, [ox, oy, r]) => sum + Math.exp(-((x - ox) ** 2 + (y - oy) ** 2) / (2 * (r * 1.9) ** 2)), 0);
  return hills + 0.09 * Math.sin(x / 97 + y / 61) + 0.06 * Math.sin(x / 53 - y / 83) + 0.12;
}

function march(pen: CanvasRenderingContext2D, x: number, y: number, cell: number, level: number): void {
  const corners = [heightAt(x, y), heightAt(x + cell, y), heightAt(x + cell, y + cell), heightAt(x, y + cell)] as const;
  const places = [[x, y], [x + cell, y], [x + cell, y + cell], [x, y + cell]] as const;
  const crossings: [number, number][] = [];
  for (let at = 0; at < 4; at++) {
    const [here, there] = [corners[at] ?? 0, corners[(at + 1) % 4] ?? 0];
    if (here > level === there > level) continue;
    const [from, to] = [places[at] ?? [0, 0], places[(at + 1) % 4] ?? [0, 0]];
    const mix = (level - here) / (there - here);
    crossings.push([from[0] + (to[0] - from[0]) * mix, from[1] + (to[1] - from[1]) * mix]);
  }
  for (let at = 0; at + 1 < crossings.length; at += 2) {
    const [from, to] = [crossings[at], crossings[at + 1]];
    if (!from || !to) continue;
    pen.moveTo(...from);
    pen.lineTo(...to);
  }
}

function pillar(pen: CanvasRenderingContext2D, x: number, y: number, r: number): void {
  const body = pen.createRadialGradient(x - r * 0.35, y - r * 0.4, r * 0.1, x, y, r);
  body.addColorStop(0, "#2c5f69");
  body.addColorStop(1, "#143a45");
  pen.fillStyle = "rgba(2, 10, 14, 0.45)";
  circle(pen, x + 5, y + 8, r + 3);
  pen.fill();
  pen.fillStyle = body;
  circle(pen, x, y, r);
  pen.fill();
  pen.strokeStyle = "rgba(168, 236, 226, 0.55)";
  pen.lineWidth = 2.5;
  pen.stroke();
  pen.strokeStyle = "rgba(168, 236, 226, 0.16)";
  pen.lineWidth = 1.5;
  for (const part of [0.72, 0.46, 0.22]) {
    circle(pen, x, y, r * part);
    pen.stroke();
  }
}

function edge(pen: CanvasRenderingContext2D): void {
  pen.strokeStyle = "rgba(255, 106, 61, 0.16)";
  pen.lineWidth = 12;
  pen.beginPath();
  pen.roundRect(0, 0, WIDTH, HEIGHT, 26);
  pen.stroke();
  pen.strokeStyle = "rgba(255, 138, 98, 0.85)";
  pen.lineWidth = 2.5;
  pen.stroke();
}

function circle(pen: CanvasRenderingContext2D, x: number, y: number, r: number): void {
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
}
