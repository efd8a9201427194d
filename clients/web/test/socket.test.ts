import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { GetRatingRequestSchema, GetRatingResponseSchema, MatchmakingService } from "../src/gen/rallypoint/v1/matchmaking_pb";
import { RoomService } from "../src/gen/rallypoint/v1/room_pb";
import { answerOf, callOf, cancelOf, headOf } from "../src/rpc/calls";
import { Channel } from "../src/rpc/channel";
import { Code, RallypointError } from "../src/rpc/error";
import { SocketServer } from "./small_socket";
import type { Socket } from "./small_socket";
import { until } from "./small_gateway";

const file = path.join(process.env["RALLYPOINT_ROOT"] ?? "", "tests/contract/vectors/websocket/calls.json");
const vectors = JSON.parse(readFileSync(file, "utf8"));
const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (data: Uint8Array): string => Buffer.from(data).toString("hex");

// --- golden vectors ---

for (const item of vectors.calls) {
  test(`a call is written as recorded: ${item.hex.slice(0, 12)}`, () => {
    if (item.message === null) return assert.equal(hex(cancelOf(item.number)), item.hex);
    const fields = item.head;
    const timeout = fields["grpc-timeout"];
    const head = fields.path && headOf({
      path: fields.path,
      token: fields.authorization?.replace("Bearer ", ""),
      deadlineMs: timeout && Number.parseInt(timeout, 10),
      lane: "answer" in fields,
    });
    return assert.equal(hex(callOf(item.number, head || undefined, bytes(item.message))), item.hex);
  });
}

for (const item of vectors.answers) {
  test(`an answer is read as recorded: ${item.hex.slice(0, 12)}`, () => {
    const { number, parts } = answerOf(bytes(item.hex));
    assert.equal(number, item.number);
    assert.deepEqual(parts.flatMap((part) => (part.kind === "message" ? [hex(part.data)] : [])), item.messages);
    const end = parts.find((part) => part.kind === "trailers");
    assert.deepEqual(end ? Object.fromEntries(end.trailers) : null, item.trailers);
  });
}

for (const item of vectors.errors) {
  test(`a broken answer is refused: ${item.reason}`, () => {
    assert.throws(() => answerOf(bytes(item.hex)), RallypointError);
  });
}

// --- calls ---

const GET = MatchmakingService.method.getRating;
const WATCH = MatchmakingService.method.watchTicket;

let server: SocketServer;
let calls: { number: number; head: ReadonlyMap<string, string>; body: Uint8Array | undefined }[];
let token: string;
let answers: (socket: Socket, number: number, path: string, body: Uint8Array) => void;

/** Answers a rating whose queue was asked for; other calls are left to the test. */
function rating(socket: Socket, number: number, called: string, body: Uint8Array): void {
  if (!called.endsWith("GetRating")) return;
  const { queue } = fromBinary(GetRatingRequestSchema, body);
  if (queue === "slow") return;
  if (queue === "none") return socket.end(number, Code.NOT_FOUND, "no%20such queue");
  socket.message(number, toBinary(GetRatingResponseSchema, create(GetRatingResponseSchema, { rating: { matches: queue.length } })));
  socket.end(number);
}

function channel(): Channel {
  const credentials = { token: async () => token, renew: async () => (token = "renewed") };
  return new Channel({ url: "http://game.test", credentials, transport: "websocket", webSocket: server.webSocket });
}

beforeEach(() => {
  [calls, token, answers] = [[], "first", rating];
  server = new SocketServer((socket) => (number, head, body) => {
    calls.push({ number, head, body });
    if (body && head.has("path")) answers(socket, number, head.get("path") ?? "", body);
  });
});

test("calls share one connection and are told apart", async () => {
  const client = channel();
  const ratings = await Promise.all(["a", "bb", "ccc"].map((queue) => client.unary(GET, { queue })));
  assert.deepEqual(ratings.map((answer) => answer.rating?.matches), [1, 2, 3]);
  assert.equal(server.sockets.length, 1);
  assert.equal(server.latest.url, "ws://game.test/rallypoint.v1.websocket");
  assert.equal(server.latest.protocol, "rallypoint.v1");
  assert.equal(calls[0]?.head.get("authorization"), "Bearer first");
  assert.equal(calls[0]?.head.get("grpc-timeout"), "5000m");
  await assert.rejects(client.unary(GET, { queue: "none" }), (error) => error instanceof RallypointError && error.code === Code.NOT_FOUND && error.message === "no such queue");
});

test("a late answer is given up, and the server told", async () => {
  const late = channel().unary(GET, { queue: "slow" }, { deadlineMs: 30 });
  await assert.rejects(late, (error) => error instanceof RallypointError && error.reason === "DEADLINE");
  await until(() => calls.length === 2);
  assert.deepEqual([calls[1]?.number, calls[1]?.body], [calls[0]?.number, undefined]);
});

test("a stream brings its messages and leaving it cancels", async () => {
  const seen: bigint[] = [];
  answers = (socket, number) => {
    for (const seq of [1, 2, 3]) socket.message(number, Uint8Array.of(8, seq));
  };
  for await (const message of channel().stream(WATCH, { ticketId: "t" })) {
    seen.push(message.seq);
    if (seen.length === 3) break;
  }
  await until(() => calls.length === 2);
  assert.equal(seen.length, 3);
  assert.deepEqual([calls[0]?.number, calls[1]?.number, calls[1]?.body], [1, 1, undefined]);
});

test("a stream ends with its status", async () => {
  answers = (socket, number) => socket.end(number, Code.ABORTED, "elsewhere");
  await assert.rejects(async () => {
    for await (const _ of channel().stream(WATCH, { ticketId: "t" }));
  }, (error) => error instanceof RallypointError && error.code === Code.ABORTED);
});

test("a refused access token is renewed once", async () => {
  answers = (socket, number, called, body) => {
    if (calls.at(-1)?.head.get("authorization") === "Bearer renewed") rating(socket, number, called, body);
    else socket.end(number, Code.UNAUTHENTICATED, "ended");
  };
  assert.equal((await channel().unary(GET, { queue: "ab" })).rating?.matches, 2);
});

test("a lane sends its head once per token and tells failures", async () => {
  const client = channel();
  const failures: RallypointError[] = [];
  const say = (): Promise<boolean> => client.say(RoomService.method.sendInput, { firstSeq: 1 }, (error) => failures.push(error));
  assert.equal(await say(), false);
  await client.unary(GET, { queue: "a" });
  for (let n = 0; n < 3; n += 1) assert.equal(await say(), true);
  token = "second";
  assert.equal(await say(), true);
  await until(() => calls.length === 5);
  assert.deepEqual(calls.slice(1).map((call) => call.number), [8, 8, 8, 8]);
  assert.deepEqual(calls.slice(1).map((call) => call.head.get("authorization")), ["Bearer first", undefined, undefined, "Bearer second"]);
  assert.equal(calls[1]?.head.get("answer"), "failures");
  server.latest.end(8, Code.RESOURCE_EXHAUSTED, "too fast");
  assert.equal(failures[0]?.code, Code.RESOURCE_EXHAUSTED);
  server.latest.end(8, Code.UNAUTHENTICATED, "ended");
  await until(() => token === "renewed");
  server.latest.bufferedAmount = 1 << 20;
  assert.equal(await say(), false);
});

test("a broken connection fails what runs and is made again", async () => {
  const client = channel();
  const slow = client.unary(GET, { queue: "slow" });
  await until(() => calls.length === 1);
  server.latest.gone();
  await assert.rejects(slow, (error) => error instanceof RallypointError && error.reason === "NETWORK" && error.transient);
  assert.equal((await client.unary(GET, { queue: "ab" })).rating?.matches, 2);
  assert.equal(server.sockets.length, 2);
});

test("a call that the leaving server did not begin is made again", async () => {
  const client = channel();
  await client.unary(GET, { queue: "a" });
  answers = (socket, number, called, body) => {
    if (socket === server.sockets[0]) socket.gone(1001, "IDLE");
    else rating(socket, number, called, body);
  };
  assert.equal((await client.unary(GET, { queue: "abc" })).rating?.matches, 3);
});

test("a connection that does not open is given up with the call", async () => {
  server.opens = false;
  const call = channel().unary(GET, { queue: "a" }, { deadlineMs: 30 });
  await assert.rejects(call, (error) => error instanceof RallypointError && error.reason === "DEADLINE");
  assert.equal(server.latest.readyState, 3);
});
