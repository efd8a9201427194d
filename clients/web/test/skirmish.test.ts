import assert from "node:assert/strict";
import { test } from "node:test";
import { OBSTACLES, RADIUS, STEP, WIDTH, aimOf, radians, step } from "../src/page/skirmish/rules";
import { flown } from "../src/page/skirmish/world";

const move = (dx: number, dy: number) => ({ dx, dy, aim: 0, fire: 0 });

test("a step is as long as the server's, also askew", () => {
  const start = { x: 600, y: 200, alive: true };
  assert.equal(step(start, move(100, 0)).x, 600 + STEP);
  const askew = step(start, move(100, 100));
  assert.ok(Math.abs(Math.hypot(askew.x - 600, askew.y - 200) - STEP) < 1e-9);
  assert.equal(step(start, move(-50, 0)).x, 600 - STEP / 2);
});

test("walls and pillars stop a player", () => {
  assert.equal(step({ x: 20, y: 400, alive: true }, move(-100, 0)).x, RADIUS);
  assert.equal(step({ x: WIDTH - 20, y: 400, alive: true }, move(100, 0)).x, WIDTH - RADIUS);
  for (const [x, y, r] of OBSTACLES) {
    const met = step({ x: x - r - RADIUS, y, alive: true }, move(100, 0));
    assert.ok(Math.abs(Math.hypot(met.x - x, met.y - y) - (r + RADIUS)) < 1e-9);
  }
});

test("who is down does not move", () => {
  const down = { x: 600, y: 200, alive: false };
  assert.deepEqual(step(down, move(100, 0)), down);
});

test("aims are angles", () => {
  assert.equal(aimOf(0), 0);
  assert.equal(aimOf(Math.PI / 2), 16384);
  assert.equal(aimOf(-Math.PI / 2), 49152);
  assert.equal(radians(32768), Math.PI);
});

test("a shot's age survives the turn of sixteen bits", () => {
  const shot = { owner: 0, x: 0, y: 0, angle: 0, born: 65_534 };
  assert.equal(flown(shot, 65_537.5), 3.5 * 45);
  assert.equal(flown({ ...shot, born: 10 }, 8), -90);
});
