import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/rpc/backoff";
import { FrameGate } from "../src/room/gate";
import { Outbox } from "../src/room/outbox";
import { withToken } from "../src/room/seats";

const frame = (epoch: bigint, tick: number, baseTick: number, ...ids: number[]) => ({
  epoch,
  tick,
  baseTick,
  events: ids.map((id) => ({ id })),
});

test("back-off is random below a bound that doubles up to the most", () => {
  const backoff = new Backoff({ random: () => 0.999999 });
  const waits = Array.from({ length: 8 }, () => Math.round(backoff.next()));
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
  backoff.reset();
  assert.equal(Math.round(backoff.next()), 250);
  assert.equal(Math.round(new Backoff({ random: () => 0 }).next(700)), 700);
});

test("a delta fits only the state it was made against", () => {
  const gate = new FrameGate();
  gate.begin(3n);
  assert.equal(gate.judge(frame(3n, 10, 9)), "rejoin");
  assert.equal(gate.judge(frame(3n, 10, 0)), "apply");
  gate.applied(frame(3n, 10, 0));
  assert.equal(gate.judge(frame(3n, 11, 10)), "apply");
  assert.equal(gate.judge(frame(3n, 12, 11)), "rejoin");
});

test("a lower epoch is ignored, a higher one needs a keyframe", () => {
  const gate = new FrameGate();
  gate.applied(frame(3n, 10, 0));
  assert.equal(gate.judge(frame(2n, 11, 10)), "ignore");
  assert.equal(gate.judge(frame(2n, 11, 0)), "ignore");
  assert.equal(gate.judge(frame(4n, 11, 10)), "rejoin");
  assert.equal(gate.judge(frame(4n, 11, 0)), "apply");
  assert.equal(gate.begin(2n), false);
});

test("a new stream starts with a keyframe", () => {
  const gate = new FrameGate();
  gate.applied(frame(3n, 10, 0));
  gate.begin(3n);
  assert.equal(gate.judge(frame(3n, 11, 10)), "rejoin");
});

test("events are seen once, also when a keyframe repeats them", () => {
  const gate = new FrameGate();
  assert.deepEqual(gate.applied(frame(3n, 10, 0, 1, 2)).map((event) => event.id), [1, 2]);
  assert.deepEqual(gate.applied(frame(3n, 11, 0, 1, 2, 3)).map((event) => event.id), [3]);
  gate.applied(frame(4n, 9, 0, 2));
  assert.deepEqual(gate.applied(frame(4n, 10, 9, 3)).map((event) => event.id), [3], "a recovered room counts on");
});

test("at most eight inputs are kept, oldest given up", () => {
  const outbox = new Outbox();
  for (let count = 0; count < 10; count++) outbox.add(Uint8Array.of(count));
  assert.equal(outbox.unacked.firstSeq, 3);
  assert.equal(outbox.unacked.inputs.length, 8);
  assert.equal(outbox.acknowledge(5), 5);
  assert.equal(outbox.unacked.firstSeq, 6);
});

test("sixteen bits of acknowledgement count on beyond 65535", () => {
  const outbox = new Outbox();
  outbox.resume(65_530);
  assert.equal(outbox.add(Uint8Array.of(1)), 65_531);
  assert.equal(outbox.acknowledge(65_531), 65_531);
  for (let count = 0; count < 7; count++) outbox.add(Uint8Array.of(count));
  assert.equal(outbox.acknowledge(1), 65_537);
  assert.equal(outbox.acknowledge(65_535), 65_537, "an old one changes nothing");
  assert.equal(outbox.unacked.inputs.length, 1);
});

test("the newest two seat tokens are kept", () => {
  const seat = { roomId: "r", tokens: [Uint8Array.of(1)], nextRequestId: 1 };
  const twice = withToken(withToken(seat, Uint8Array.of(2)), Uint8Array.of(3));
  assert.deepEqual(twice.tokens, [Uint8Array.of(3), Uint8Array.of(2)]);
  assert.deepEqual(withToken(twice, Uint8Array.of(3)).tokens, twice.tokens);
  assert.deepEqual(withToken(twice, new Uint8Array()).tokens, twice.tokens);
});
