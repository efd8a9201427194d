import { create, toBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ColumnKind, ControlKind, FrameSchema, RoomService, Visibility } from "../src/gen/rallypoint/v1/room_pb";
import type { JoinRequest, JoinResponseSchema, SendInputRequest } from "../src/gen/rallypoint/v1/room_pb";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Backoff } from "../src/rpc/backoff";
import { Code } from "../src/rpc/error";
import { RoomConnection } from "../src/room/connection";
import type { Ending, FrameUpdate } from "../src/room/connection";
import { SeatStore } from "../src/room/seats";
import { MemoryStore, SmallGateway, until } from "./small_gateway";
import type { Caller } from "./small_gateway";

type Downstream = Caller<MessageInitShape<typeof JoinResponseSchema>>;

let gateway: SmallGateway;
let joins: { request: JoinRequest; stream: Downstream }[];
let inputs: SendInputRequest[];
let frames: FrameUpdate[];
let endings: Ending[];
let seats: SeatStore;
let connection: RoomConnection;
let running: Promise<void>;

const SCHEMA = {
  tables: [
    {
      id: 0,
      name: "seats",
      rows: 1,
      visibility: Visibility.SHARED,
      columns: [{ name: "ack", kind: ColumnKind.U16 }, { name: "state", kind: ColumnKind.U8 }],
    },
  ],
  input: [{ name: "fire", kind: ColumnKind.U8 }],
};

/** A frame whose only content is an acknowledgement. */
function frame(tick: number, baseTick: number, ack: number, epoch = 3n) {
  const data = Uint8Array.of(1, 1, ack & 0xff, ack >> 8);
  return { kind: { case: "frame" as const, value: { epoch, tick, baseTick, sections: [{ table: 0, visibility: 1, data }] } } };
}

function welcome(stream: Downstream, count: number, inputSeq = 0, epoch = 3n): void {
  const value = {
    roomId: "r",
    slot: 0,
    streamToken: Uint8Array.of(count),
    seatToken: Uint8Array.of(100 + count),
    epoch,
    schema: SCHEMA,
    tickHz: 20,
    graceMs: 30_000,
    inputSeq,
  };
  stream.send({ kind: { case: "welcome", value } });
}

beforeEach(async () => {
  gateway = await new SmallGateway().start();
  [joins, inputs, frames, endings] = [[], [], [], []];
  gateway.on(RoomService.method.join, (request, stream) => {
    joins.push({ request, stream });
    const applied = inputs.at(-1);
    welcome(stream, joins.length, joins.length > 1 && applied ? applied.firstSeq : 0);
    if (joins.length === 1) stream.send(frame(5, 0, 0));
  });
  gateway.on(RoomService.method.sendInput, (request, caller) => {
    inputs.push(request);
    caller.send({});
    caller.end();
  });
  seats = new SeatStore(new MemoryStore());
  connection = new RoomConnection({
    channel: { url: gateway.url },
    seats,
    seat: { roomId: "r", tokens: [Uint8Array.of(1)], nextRequestId: 1 },
    backoff: new Backoff({ leastMs: 5, mostMs: 20 }),
    handlers: { onFrame: (update) => frames.push(update), onEnded: (ending) => endings.push(ending) },
  });
  running = connection.run();
  await until(() => frames.length === 1);
});

afterEach(async () => {
  connection.detach();
  await running;
  await gateway.stop();
});

const stream = (): Downstream => joins.at(-1)?.stream as Downstream;

test("frames arrive decoded, the connection is live", () => {
  assert.equal(connection.state, "live");
  assert.equal(frames[0]?.tick, 5);
  assert.equal(frames[0]?.keyframe, true);
  assert.equal(connection.welcome?.graceMs, 30_000);
});

test("a broken stream is joined again with both tokens", async () => {
  stream().cut();
  await until(() => joins.length >= 2);
  assert.deepEqual(joins[1]?.request.seatTokens.map((token) => token[0]), [101, 1]);
  assert.deepEqual(joins.map(({ request }) => request.attempt), [1, 2]);
  assert.ok(joins[0]?.request.clientId && joins[0].request.clientId === joins[1]?.request.clientId);
  stream().send(frame(9, 0, 0));
  await until(() => frames.length === 2);
  assert.equal(connection.state, "live");
  assert.deepEqual(seats.load()?.tokens.map((token) => token[0]), [102, 101]);
  assert.equal(connection.statistics().reconnects, 1);
});

test("a slow client is told so, and told when it gets every frame again", async () => {
  const say = (reason: string): void => stream().send({ kind: { case: "control", value: { kind: ControlKind.SLOW, reason } } });
  say("HALF_RATE");
  await until(() => connection.statistics().slow);
  stream().send(frame(7, 5, 0));
  await until(() => frames.length === 2);
  say("FULL_RATE");
  await until(() => !connection.statistics().slow);
  assert.equal(joins.length, 1);
});

test("who was kicked for reading slowly comes back by itself", async () => {
  stream().send({ kind: { case: "control", value: { kind: ControlKind.KICKED, reason: "SLOW_CONSUMER" } } });
  await until(() => joins.length >= 2);
  stream().send(frame(9, 0, 0));
  await until(() => frames.length === 2);
  assert.deepEqual([connection.state, endings.length], ["live", 0]);
});

test("a delta against another tick makes it join again", async () => {
  stream().send(frame(8, 7, 0));
  await until(() => joins.length >= 2);
  assert.equal(frames.length, 1);
});

test("unreadable bytes make it join again", async () => {
  const data = Uint8Array.of(0xff);
  stream().send({ kind: { case: "frame", value: { epoch: 3n, tick: 6, baseTick: 5, sections: [{ table: 0, data }] } } });
  await until(() => joins.length >= 2);
});

test("a frame of a lower epoch is ignored, a higher one needs a keyframe", async () => {
  stream().send(frame(6, 5, 0, 2n));
  stream().send(frame(6, 0, 0, 4n));
  await until(() => frames.length === 2);
  assert.equal(connection.epoch, 4n);
  stream().send(frame(7, 6, 0, 5n));
  await until(() => joins.length >= 2);
});

test("the welcome of an old owner is not followed", async () => {
  gateway.on(RoomService.method.join, (request, downstream) => {
    joins.push({ request, stream: downstream });
    welcome(downstream, joins.length, 0, joins.length === 2 ? 2n : 3n);
  });
  const epochs = new Set<bigint | undefined>();
  stream().cut();
  await until(() => {
    epochs.add(connection.welcome?.epoch);
    return joins.length >= 3;
  });
  assert.deepEqual([...epochs], [3n]);
  stream().send(frame(9, 0, 0));
  await until(() => frames.length === 2);
  assert.deepEqual([...(connection.welcome?.streamToken ?? [])], [joins.length]);
});

test("inputs not applied go along with the next, at most eight", async () => {
  for (let count = 0; count < 10; count++) {
    connection.sendInput({ fire: count });
    await until(() => inputs.length === count + 1);
  }
  assert.equal(inputs.at(-1)?.firstSeq, 3);
  assert.deepEqual(inputs.at(-1)?.inputs.map((bytes) => bytes[0]), [2, 3, 4, 5, 6, 7, 8, 9]);
  stream().send(frame(6, 5, 9));
  await until(() => frames.length === 2);
  assert.equal(frames[1]?.ackSeq, 9);
  connection.sendInput({ fire: 42 });
  await until(() => inputs.at(-1)?.inputs.length === 2);
  assert.equal(inputs.at(-1)?.firstSeq, 10);
});

test("at most two calls with inputs are under way", async () => {
  const held: (() => void)[] = [];
  gateway.on(RoomService.method.sendInput, (request, caller) => {
    inputs.push(request);
    held.push(() => {
      caller.send({});
      caller.end();
    });
  });
  for (let count = 0; count < 6; count++) connection.sendInput({ fire: count });
  await until(() => inputs.length === 2);
  held.splice(0).forEach((answer) => answer());
  await until(() => inputs.length === 3);
  assert.equal(inputs[2]?.inputs.length, 6, "what was held back goes out together");
  held.splice(0).forEach((answer) => answer());
});

test("inputs of the old stream are sent again on the new one", async () => {
  connection.sendInput({ fire: 1 });
  await until(() => inputs.length === 1);
  connection.sendInput({ fire: 2 });
  await until(() => inputs.length === 2);
  stream().cut();
  await until(() => joins.length >= 2);
  stream().send(frame(9, 0, 1));
  await until(() => inputs.length === 3);
  assert.deepEqual([...(inputs[2]?.streamToken ?? [])], [2]);
  assert.equal(inputs[2]?.firstSeq, 2);
});

test("a message is retried with the same id until it is answered", async () => {
  const ids: number[] = [];
  gateway.on(RoomService.method.sendMessage, (request, caller) => {
    ids.push(request.requestId);
    if (ids.length < 3) return caller.end({ code: Code.UNAVAILABLE });
    caller.send({ body: Uint8Array.of(7) });
    return caller.end();
  });
  assert.deepEqual([...(await connection.sendMessage(1, Uint8Array.of(4)))], [7]);
  assert.deepEqual(ids, [1, 1, 1]);
  await connection.sendMessage(1, Uint8Array.of(5));
  assert.deepEqual(ids, [1, 1, 1, 2]);
  assert.equal(seats.load()?.nextRequestId, 3, "a reload goes on counting");
});

test("a refused message is not retried", async () => {
  gateway.on(RoomService.method.sendMessage, (_request, caller) => caller.end({ code: Code.INVALID_ARGUMENT }));
  await assert.rejects(connection.sendMessage(1, Uint8Array.of(4)));
  assert.equal(gateway.calls.filter((call) => call === "SendMessage").length, 1);
});

test("a closed room ends with its result and frees the seat", async () => {
  const result = { matchId: "r", rated: true, placements: [{ slot: 0, rank: 1 }] };
  stream().send({ kind: { case: "control", value: { kind: ControlKind.CLOSED, reason: "FINISHED", result } } });
  stream().end();
  await running;
  assert.equal(endings[0]?.how, "closed");
  assert.equal(endings[0]?.result?.placements.length, 1);
  assert.equal(seats.load(), undefined);
});

test("asked to reconnect, it joins again at once", async () => {
  stream().send({ kind: { case: "control", value: { kind: ControlKind.RECONNECT } } });
  await until(() => joins.length >= 2);
});

test("a seat taken by a newer stream is kept, and not fought over", async () => {
  stream().send({ kind: { case: "control", value: { kind: ControlKind.KICKED, reason: "STREAM_REPLACED" } } });
  await running;
  assert.equal(endings[0]?.how, "replaced");
  assert.notEqual(seats.load(), undefined);
  assert.equal(joins.length, 1);
});

test("a refused seat ends, an unavailable gateway is tried again", async () => {
  const codes = [Code.UNAVAILABLE, Code.UNAVAILABLE, Code.PERMISSION_DENIED];
  gateway.on(RoomService.method.join, (_request, caller) => caller.end({ code: codes.shift() ?? Code.OK }));
  stream().cut();
  await running;
  assert.equal(endings[0]?.how, "refused");
  assert.equal(codes.length, 0);
});

test("after two seconds of silence the stream is given up", { timeout: 30_000 }, async () => {
  await until(() => joins.length >= 2, 20_000);
  assert.equal(connection.state, "reconnecting");
});

test("keep-alives keep the stream", async () => {
  for (let count = 0; count < 6; count++) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    stream().send({});
  }
  assert.equal(joins.length, 1);
});

test("the frames of this test are what the wire says", () => {
  const bytes = toBinary(FrameSchema, create(FrameSchema, { epoch: 3n, tick: 7 }));
  assert.equal(Buffer.from(bytes).toString("hex"), "08031007");
});
