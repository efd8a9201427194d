import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { MatchmakingService } from "../src/gen/rallypoint/v1/matchmaking_pb";
import { SessionService } from "../src/gen/rallypoint/v1/session_pb";
import { Channel } from "../src/rpc/channel";
import { Code, RallypointError } from "../src/rpc/error";
import { SessionStore } from "../src/session/store";
import { MemoryStore, SmallGateway } from "./small_gateway";

let gateway: SmallGateway;
let devices: string[];
let valid: string;
let made: number;

beforeEach(async () => {
  gateway = await new SmallGateway().start();
  [devices, valid, made] = [[], "", 0];
  const session = () => {
    made += 1;
    valid = `access-${made}`;
    return { session: { playerId: "p", displayName: "Ada", accessToken: valid, refreshToken: `refresh-${made}` } };
  };
  gateway.on(SessionService.method.openSession, (request, caller) => {
    if (request.credential.case === "guest") devices.push(Buffer.from(request.credential.value.deviceSecret).toString("hex"));
    caller.send(session());
    caller.end();
  });
  gateway.on(SessionService.method.refreshSession, (request, caller) => {
    if (request.refreshToken !== `refresh-${made}`) return caller.end({ code: Code.UNAUTHENTICATED });
    caller.send(session());
    return caller.end();
  });
  gateway.on(MatchmakingService.method.getRating, (_request, caller) => {
    if (caller.token !== valid) return caller.end({ code: Code.UNAUTHENTICATED, inHeaders: made % 2 === 0 });
    caller.send({ rating: { display: 1500 } });
    return caller.end();
  });
});

afterEach(() => gateway.stop());

const ada = { displayName: "Ada", game: "skirmish", build: "1" };
const rating = (channel: Channel) => channel.unary(MatchmakingService.method.getRating, { queue: "skirmish" });

test("the device secret is made once and kept", async () => {
  const storage = new MemoryStore();
  await new SessionStore({ url: gateway.url, storage }).open(ada);
  await new SessionStore({ url: gateway.url, storage }).open({ ...ada, displayName: "Bea" });
  assert.equal(devices.length, 2);
  assert.equal(devices[0], devices[1]);
  assert.equal(devices[0]?.length, 64);
});

test("a reload goes on with the session it finds", async () => {
  const storage = new MemoryStore();
  await new SessionStore({ url: gateway.url, storage }).open(ada);
  const again = new SessionStore({ url: gateway.url, storage });
  assert.equal((await again.open(ada)).accessToken, "access-1");
  assert.deepEqual(gateway.calls, ["OpenSession"]);
});

test("calls refused together refresh once and succeed", async () => {
  const credentials = new SessionStore({ url: gateway.url, storage: new MemoryStore() });
  await credentials.open(ada);
  valid = "something newer";
  const channel = new Channel({ url: gateway.url, credentials });
  const answers = await Promise.all([rating(channel), rating(channel), rating(channel)]);
  assert.deepEqual(answers.map((answer) => answer.rating?.display), [1500, 1500, 1500]);
  assert.equal(gateway.calls.filter((call) => call === "RefreshSession").length, 1);
});

test("a used refresh token is no loss to a guest", async () => {
  const credentials = new SessionStore({ url: gateway.url, storage: new MemoryStore() });
  await credentials.open(ada);
  [made, valid] = [7, "something newer"];
  const answer = await rating(new Channel({ url: gateway.url, credentials }));
  assert.equal(answer.rating?.display, 1500);
  assert.equal(gateway.calls.filter((call) => call === "OpenSession").length, 2);
});

test("a server that answers nothing ends with the deadline", async () => {
  gateway.on(MatchmakingService.method.listQueues, () => undefined);
  const call = new Channel({ url: gateway.url }).unary(MatchmakingService.method.listQueues, {}, { deadlineMs: 60 });
  await assert.rejects(call, (error) => error instanceof RallypointError && error.code === Code.DEADLINE_EXCEEDED);
});

test("a server that is not there is unavailable", async () => {
  const gone = gateway.url;
  await gateway.stop();
  gateway = await new SmallGateway().start();
  await assert.rejects(rating(new Channel({ url: gone })), (error) => error instanceof RallypointError && error.reason === "NETWORK" && error.transient);
});

test("an HTTP error without a gRPC status keeps its meaning", async () => {
  const call = new Channel({ url: gateway.url }).unary(MatchmakingService.method.cancelTicket, {});
  await assert.rejects(call, (error) => error instanceof RallypointError && error.code === Code.UNIMPLEMENTED);
});
