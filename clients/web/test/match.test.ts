import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { MatchmakingService, TicketState } from "../src/gen/rallypoint/v1/matchmaking_pb";
import { Matchmaker } from "../src/match/find";
import type { SearchEvent } from "../src/match/find";
import { Backoff } from "../src/rpc/backoff";
import { Channel } from "../src/rpc/channel";
import { Code, RallypointError } from "../src/rpc/error";
import { MemoryStore, SmallGateway } from "./small_gateway";

const { createTicket, watchTicket, cancelTicket, getRating } = MatchmakingService.method;

let gateway: SmallGateway;
let storage: MemoryStore;
let requests: string[];
let watches: { ticketId: string; afterSeq: bigint }[];

beforeEach(async () => {
  gateway = await new SmallGateway().start();
  storage = new MemoryStore();
  [requests, watches] = [[], []];
  gateway.on(createTicket, (request, caller) => {
    requests.push(request.requestId);
    caller.send({ ticket: { ticketId: `t${requests.length}`, queue: request.queue } });
    caller.end();
  });
});

afterEach(() => gateway.stop());

const matchmaker = (): Matchmaker =>
  new Matchmaker({ channel: new Channel({ url: gateway.url }), storage, backoff: new Backoff({ leastMs: 2, mostMs: 5 }) });

async function all(events: AsyncGenerator<SearchEvent>): Promise<string[]> {
  const kinds: string[] = [];
  for await (const event of events) kinds.push(event.kind);
  return kinds;
}

/** Each stream plays the next script: messages, then its end. */
function watching(...scripts: ((stream: Parameters<Parameters<SmallGateway["on"]>[1]>[1]) => void)[]): void {
  gateway.on(watchTicket, (request, stream) => {
    watches.push({ ticketId: request.ticketId, afterSeq: request.afterSeq });
    scripts[Math.min(watches.length, scripts.length) - 1]?.(stream as never);
  });
}

const queued = (seq: bigint) => ({ seq, event: { case: "queued" as const, value: { position: 1, searching: 1 } } });
const assigned = (seq: bigint) => ({ seq, event: { case: "assigned" as const, value: { roomId: "r" } } });

test("a search tells what happens until a room is ready, then forgets itself", async () => {
  watching((stream) => {
    for (const message of [{}, queued(1n), assigned(2n)]) stream.send(message as never);
    stream.end();
  });
  const search = matchmaker();
  assert.deepEqual(await all(search.find("skirmish")), ["queued", "assigned"]);
  assert.equal(search.pending(), undefined);
});

test("a broken stream goes on after the last seq with the same ticket", async () => {
  watching(
    (stream) => {
      stream.send(queued(4n) as never);
      setTimeout(() => stream.cut(), 20);
    },
    (stream) => {
      stream.send(assigned(5n) as never);
      stream.end();
    },
  );
  assert.deepEqual(await all(matchmaker().find("skirmish")), ["queued", "interrupted", "assigned"]);
  assert.deepEqual(watches, [{ ticketId: "t1", afterSeq: 0n }, { ticketId: "t1", afterSeq: 4n }]);
});

test("a ticket that the store lost is made anew by the same request id", async () => {
  watching(
    (stream) => stream.end({ code: Code.NOT_FOUND }),
    (stream) => {
      stream.send(assigned(1n) as never);
      stream.end();
    },
  );
  assert.deepEqual(await all(matchmaker().find("skirmish")), ["interrupted", "assigned"]);
  assert.equal(requests.length, 2);
  assert.equal(requests[0], requests[1]);
});

test("a reload goes on with the ticket it finds", async () => {
  storage.setItem("rallypoint.search", JSON.stringify({ queue: "skirmish", requestId: "q", ticketId: "old" }));
  watching((stream) => {
    stream.send(assigned(9n) as never);
    stream.end();
  });
  assert.deepEqual(await all(matchmaker().find("skirmish")), ["assigned"]);
  assert.deepEqual(requests, []);
  assert.equal(watches[0]?.ticketId, "old");
});

test("a search that ended by time says so", async () => {
  watching((stream) => {
    stream.send({ seq: 2n, event: { case: "ended", value: { state: TicketState.EXPIRED } } } as never);
    stream.end();
  });
  assert.deepEqual(await all(matchmaker().find("skirmish")), ["ended"]);
});

test("a refusal is told and not retried", async () => {
  gateway.on(createTicket, (_request, caller) => caller.end({ code: Code.ALREADY_EXISTS }));
  const search = matchmaker();
  await assert.rejects(all(search.find("skirmish")), (error) => error instanceof RallypointError && error.code === Code.ALREADY_EXISTS);
  assert.equal(search.pending(), undefined);
  assert.deepEqual(gateway.calls, ["CreateTicket"]);
});

test("leaving the queue withdraws the ticket", async () => {
  const cancelled: string[] = [];
  gateway.on(cancelTicket, (request, caller) => {
    cancelled.push(request.ticketId);
    caller.send({});
    caller.end();
  });
  const search = matchmaker();
  search.adopt("skirmish", "t7");
  assert.equal(await search.cancel(), true);
  assert.deepEqual(cancelled, ["t7"]);
  assert.equal(await search.cancel(), true, "twice does no harm");
});

test("leaving while the ticket is being made withdraws it too", async () => {
  const cancelled: string[] = [];
  watching();
  const late = new Promise<() => void>((resolve) => {
    gateway.on(createTicket, (_request, caller) => {
      resolve(() => {
        caller.send({ ticket: { ticketId: "t9" } });
        caller.end();
      });
    });
  });
  gateway.on(cancelTicket, (request, caller) => {
    cancelled.push(request.ticketId);
    caller.send({});
    caller.end();
  });
  const leaving = new AbortController();
  const search = matchmaker();
  const searching = all(search.find("skirmish", leaving.signal));
  const answer = await late;
  const left = search.cancel();
  answer();
  assert.equal(await left, true);
  leaving.abort();
  await searching;
  assert.deepEqual(cancelled, ["t9"]);
  assert.equal(search.pending(), undefined);
});

test("the rating is waited for until it has the match", async () => {
  let asked = 0;
  gateway.on(getRating, (_request, caller) => {
    asked += 1;
    caller.send({ rating: { display: 1500 + asked, lastMatchId: asked < 3 ? "before" : "m" } });
    caller.end();
  });
  assert.equal((await matchmaker().ratingAfter("skirmish", "m"))?.display, 1503);
  assert.equal(await matchmaker().ratingAfter("skirmish", "never", 200), undefined);
});
