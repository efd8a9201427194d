import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ReplayChunkSchema, ReplayStart } from "../src/gen/rallypoint/v1/replay_pb";
import type { ReplayChunk } from "../src/gen/rallypoint/v1/replay_pb";
import { ColumnKind, ControlKind, Visibility } from "../src/gen/rallypoint/v1/room_pb";
import type { ReplayFrame, ReplayView } from "../src/page/game_view";
import { Player } from "../src/replay/player";
import { Timeline } from "../src/replay/timeline";

const HZ = 10;
const PER_CHUNK = 20;

/** A chunk of a room whose only value is the tick. */
function chunkOf(number: number, options: { epoch?: bigint; firstTick?: number; atS?: number; start?: ReplayStart; last?: boolean } = {}): ReplayChunk {
  const firstTick = options.firstTick ?? number * PER_CHUNK + 1;
  const entries = Array.from({ length: PER_CHUNK }, (_, at) => {
    const tick = firstTick + at;
    const data = Uint8Array.of(1, 1, tick & 0xff, tick >> 8);
    const events = tick % 7 === 0 ? [{ id: tick, type: 1 }] : [];
    // A keyframe repeats events of before.
    const repeated = at === 0 && tick > 7 ? [{ id: tick - (tick % 7), type: 1 }] : [];
    return { kind: { case: "frame" as const, value: { epoch: options.epoch ?? 1n, tick, baseTick: at === 0 ? 0 : tick - 1, sections: [{ table: 0, data }], events: [...repeated.filter((event) => event.id < tick), ...events] } } };
  });
  const closed = { kind: { case: "control" as const, value: { kind: ControlKind.CLOSED, reason: "FINISHED", result: {} } } };
  return create(ReplayChunkSchema, {
    roomId: "r",
    epoch: options.epoch ?? 1n,
    number,
    start: options.start ?? ReplayStart.UNSPECIFIED,
    beginTime: { seconds: BigInt(1000 + Math.floor(options.atS ?? number * 2)), nanos: 0 },
    firstTick,
    lastTick: firstTick + PER_CHUNK - 1,
    last: options.last ?? false,
    head: { game: "g", tickHz: HZ, sendHz: HZ, seats: [{ slot: 0, displayName: "Ada" }], schema: { tables: [{ id: 0, name: "t", rows: 1, visibility: Visibility.SHARED, columns: [{ name: "v", kind: ColumnKind.U16 }] }] } },
    entries: [...entries, ...(options.last ? [closed] : [])],
  });
}

function timelineOf(...chunks: ReplayChunk[]): Timeline {
  const timeline = new Timeline();
  for (const chunk of chunks) timeline.add(chunk);
  return timeline;
}

/** Remembers what it was given. */
class Noted implements ReplayView {
  readonly element = undefined as unknown as HTMLElement;
  readonly followed = undefined;
  readonly ticks: number[] = [];
  readonly events: number[] = [];
  kept: number[] = [];
  shown = 0;
  resets = 0;
  reset(): void {
    this.resets++;
    this.kept = [];
  }
  frame(frame: ReplayFrame): void {
    this.ticks.push(frame.tick);
    this.kept.push(frame.tick);
    this.events.push(...frame.events.map((event) => event.id));
    this.shown = frame.tables.table("t").get("v", 0);
    assert.equal(this.shown, frame.tick);
  }
  draw(): void {}
  facts(): Record<string, unknown> {
    return {};
  }
  dispose(): void {}
}

test("chunks make one line in time, without marks", () => {
  const timeline = timelineOf(chunkOf(0), chunkOf(1), chunkOf(2, { last: true }));
  assert.equal(timeline.frames.length, 3 * PER_CHUNK);
  assert.equal(timeline.lengthMs, 6000);
  assert.deepEqual(timeline.marks, []);
  assert.deepEqual([timeline.ended, timeline.reason], [true, "FINISHED"]);
  const ids = timeline.frames.flatMap((frame) => frame.events.map((event) => event.id));
  assert.deepEqual(ids, [7, 14, 21, 28, 35, 42, 49, 56]);
});

test("what is missing, moved or recovered is marked", () => {
  assert.deepEqual(timelineOf(chunkOf(0), chunkOf(2)).marks, [{ kind: "gap", atMs: 4000, lostMs: 2000 }]);
  const moved = timelineOf(chunkOf(0), chunkOf(0, { epoch: 2n, firstTick: 21, atS: 2, start: ReplayStart.MOVED }));
  assert.deepEqual(moved.marks, [{ kind: "moved", atMs: 2000, lostMs: 0 }]);
  const recovered = timelineOf(chunkOf(0), chunkOf(0, { epoch: 2n, firstTick: 15, atS: 6, start: ReplayStart.RECOVERED }));
  assert.deepEqual(recovered.marks, [{ kind: "recovered", atMs: 6000, lostMs: 4000 }]);
});

test("a chunk of a lower epoch, or one that came before, counts nothing", () => {
  const next = chunkOf(0, { epoch: 2n, firstTick: 21, atS: 2, start: ReplayStart.MOVED });
  const timeline = timelineOf(chunkOf(0), chunkOf(0), next, chunkOf(1));
  assert.equal(timeline.frames.length, 2 * PER_CHUNK);
});

test("play gives every frame once, and events with them", () => {
  const view = new Noted();
  const timeline = timelineOf(chunkOf(0), chunkOf(1));
  const player = new Player(timeline, view, { live: false });
  for (let at = 0; at < 300; at++) player.pass(16, at * 16);
  assert.deepEqual(view.ticks, timeline.frames.map((frame) => frame.tick));
  assert.deepEqual(view.events, [7, 14, 21, 28, 35]);
  assert.equal(player.over, true);
});

test("a sought place is reached from its keyframe, forward and back", () => {
  const view = new Noted();
  const player = new Player(timelineOf(chunkOf(0), chunkOf(1), chunkOf(2)), view, { live: false });
  player.pass(100, 0);
  player.seek(5000);
  assert.ok(Math.abs(view.shown - 51) <= 2);
  player.seek(500);
  assert.ok(Math.abs(view.shown - 6) <= 2);
  assert.equal(view.resets, 3);
});

test("a sought frame is shown, also the last one before a keyframe", () => {
  const view = new Noted();
  const timeline = timelineOf(chunkOf(0), chunkOf(1), chunkOf(2));
  const player = new Player(timeline, view, { live: false });
  for (const { atMs, tick } of timeline.frames) {
    player.seek(atMs < 3000 ? timeline.lengthMs : 0);
    player.seek(atMs);
    assert.ok(view.kept.includes(tick), `${tick} of ${view.kept}`);
  }
  player.seek(2000);
  player.seek(1999);
  assert.ok(view.kept.includes(20));
});

test("twice the speed takes half the time", () => {
  const view = new Noted();
  const player = new Player(timelineOf(chunkOf(0), chunkOf(1), chunkOf(2)), view, { live: false });
  player.speed = 4;
  for (let at = 0; at < 60; at++) player.pass(16, at * 16);
  assert.ok(Math.abs(player.atMs - 60 * 16 * 4) < 1);
  player.playing = false;
  player.pass(16, 1000);
  assert.ok(Math.abs(player.atMs - 60 * 16 * 4) < 1);
});
