import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { RoomService, RoomVisibility } from "../src/gen/rallypoint/v1/room_pb";
import { Rooms } from "../src/match/rooms";
import { Channel } from "../src/rpc/channel";
import { Code, RallypointError } from "../src/rpc/error";
import { SmallGateway } from "./small_gateway";

const { createRoom, joinByCode, listRooms } = RoomService.method;

let gateway: SmallGateway;

beforeEach(async () => {
  gateway = await new SmallGateway().start();
});

afterEach(() => gateway.stop());

const rooms = (): Rooms => new Rooms(new Channel({ url: gateway.url }));

test("a room whose answer was lost is asked for again under the same id", async () => {
  const asked: string[] = [];
  gateway.on(createRoom, (request, caller) => {
    asked.push(request.requestId);
    assert.equal(request.visibility, RoomVisibility.LISTED);
    assert.equal(new TextDecoder().decode(request.options), '{"time_limit_s":60}');
    if (asked.length === 1) return caller.end({ code: Code.UNAVAILABLE });
    caller.send({ roomId: "r1", code: "ABC234", seatToken: Uint8Array.of(1) });
    return caller.end();
  });
  const made = await rooms().create({ game: "skirmish", listed: true, options: { time_limit_s: 60 } });
  assert.equal(made.code, "ABC234");
  assert.equal(asked.length, 2);
  assert.equal(asked[0], asked[1]);
});

test("a code that leads nowhere is tried once", async () => {
  let tries = 0;
  gateway.on(joinByCode, (_, caller) => {
    tries += 1;
    caller.end({ code: Code.NOT_FOUND });
  });
  await assert.rejects(rooms().join("ABC234"), (error) => error instanceof RallypointError && error.code === Code.NOT_FOUND);
  assert.equal(tries, 1);
});

test("the list asks for rooms that let somebody in", async () => {
  gateway.on(listRooms, (request, caller) => {
    assert.ok(request.hasFreeSeats && request.notLocked);
    caller.send({ rooms: [{ roomId: "r1", code: "ABC234", players: 1, maxPlayers: 4 }] });
    caller.end();
  });
  assert.deepEqual((await rooms().open()).map((room) => room.code), ["ABC234"]);
});

test("a room that has filled up meanwhile is passed over, and one is made when all have", async () => {
  const codes = ["FULL22", "ABC234"];
  gateway.on(listRooms, (_, caller) => {
    caller.send({ rooms: codes.map((code) => ({ code, metadata: { map: "ice" } })) });
    caller.end();
  });
  gateway.on(joinByCode, (request, caller) => {
    if (request.code === "FULL22") return caller.end({ code: Code.RESOURCE_EXHAUSTED });
    caller.send({ roomId: "open" });
    return caller.end();
  });
  gateway.on(createRoom, (_, caller) => {
    caller.send({ roomId: "own" });
    caller.end();
  });
  const wish = { game: "skirmish", metadata: { map: "ice" } };
  assert.equal((await rooms().joinOrCreate(wish)).roomId, "open");
  assert.deepEqual(gateway.calls, ["ListRooms", "JoinByCode", "JoinByCode"]);
  assert.equal((await rooms().joinOrCreate({ ...wish, metadata: { map: "fire" } })).roomId, "own");
  codes.pop();
  assert.equal((await rooms().joinOrCreate(wish)).roomId, "own");
});
