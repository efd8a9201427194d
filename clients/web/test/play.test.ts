import assert from "node:assert/strict";
import { test } from "node:test";
import { Interpolator, mixed, mixedAngle } from "../src/play/interpolator";
import { Reconciler } from "../src/play/reconciler";
import { SendClock } from "../src/play/send_clock";

const walk = () =>
  new Reconciler<{ x: number }, number>({
    step: (state, move) => ({ x: state.x + move }),
    visible: (state) => [state.x],
    snapDistance: 50,
  });

test("own inputs take effect at once and a right prediction is not corrected", () => {
  const own = walk();
  own.reconcile({ x: 0 }, 0);
  for (let seq = 1; seq <= 5; seq++) own.apply(seq, 2);
  assert.equal(own.state?.x, 10);
  own.reconcile({ x: 6 }, 3);
  assert.equal(own.state?.x, 10);
  assert.equal(own.error, 0);
  assert.equal(own.pending, 2);
  assert.deepEqual(own.view(0.5), [9]);
});

test("a wrong prediction is corrected, and the screen follows within moments", () => {
  const own = walk();
  own.reconcile({ x: 0 }, 0);
  own.apply(1, 4);
  own.apply(2, 4);
  const shown = own.view(1)[0];
  own.reconcile({ x: 1 }, 1);
  assert.equal(own.state?.x, 5);
  assert.equal(own.error, 3);
  assert.equal(own.view(1)[0], shown, "nothing jumps");
  own.decay(65);
  assert.ok(Math.abs((own.view(1)[0] ?? 0) - (5 + 3 / Math.E)) < 1e-9);
  own.decay(1000);
  assert.ok(Math.abs((own.view(1)[0] ?? 0) - 5) < 1e-3);
});

test("without inputs under way the drawn step moves as a whole", () => {
  const own = walk();
  own.reconcile({ x: 0 }, 0);
  own.apply(1, 4);
  own.reconcile({ x: 6 }, 1);
  assert.deepEqual([own.view(0)[0], own.view(1)[0]], [0, 4]);
  own.decay(1e6);
  assert.deepEqual([own.view(0)[0], own.view(1)[0]], [2, 6]);
});

test("a teleport is shown at once", () => {
  const own = walk();
  own.reconcile({ x: 0 }, 0);
  own.apply(1, 1);
  own.reconcile({ x: 400 }, 1);
  assert.deepEqual(own.view(1), [400]);
});

test("others are drawn between two states, a tenth of a second back", () => {
  const others = new Interpolator<number>({ tickHz: 20 });
  for (let tick = 1; tick <= 10; tick++) others.push(tick, tick * 10, tick * 50);
  const drawn = others.at(500 + 25);
  assert.ok(drawn);
  assert.equal(mixed(drawn.from, drawn.to, drawn.mix), 85);
  const late = others.at(5_000);
  assert.equal(late && mixed(late.from, late.to, late.mix), 100, "nothing is invented beyond the newest");
});

test("others are drawn further back while frames come half as often", () => {
  const others = new Interpolator<number>({ tickHz: 20 });
  let atMs = 0;
  const follow = (count: number, ticks: number): number => {
    for (let frame = 0, tick = Math.round(atMs / 50); frame < count; frame++) others.push((tick += ticks), tick, (atMs = tick * 50));
    return others.delayMs;
  };
  assert.equal(follow(20, 1), 100);
  const halved = follow(60, 2);
  assert.ok(halved > 190 && halved <= 200, String(halved));
  const between = others.at(atMs + 90);
  assert.ok(between && between.mix < 1, "there is a state ahead of the drawn moment");
  assert.ok(follow(90, 1) < 110);
});

test("a tick that goes back starts anew", () => {
  const others = new Interpolator<number>({ tickHz: 20 });
  others.push(90, 1, 0);
  others.push(3, 2, 50);
  const drawn = others.at(150);
  assert.deepEqual([drawn?.tick, drawn?.from, drawn?.to], [3, 2, 2]);
});

test("angles go the short way round", () => {
  const across = mixedAngle(Math.PI - 0.1, -Math.PI + 0.1, 0.5);
  assert.ok(Math.abs(Math.abs(across) - Math.PI) < 1e-9);
});

test("inputs come to arrive shortly before their tick, from wherever they begin", () => {
  for (const begin of [0, 10, 24, 26, 49]) {
    const clock = new SendClock(50);
    let sentMs = begin;
    for (let second = 0; second < 40; second++) {
      clock.observe(50 - (sentMs % 50) || 50);
      for (let input = 0; input < 20; input++) sentMs += 50 + clock.shiftMs();
    }
    const margin = 50 - (sentMs % 50);
    assert.ok(Math.abs(margin - clock.aimMs) < 2, `from ${begin}: ${margin}`);
    assert.ok(clock.aimMs < 12, String(clock.aimMs));
  }
});
