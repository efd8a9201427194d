// The work of services/rallypoint/games/drift.py as a Colyseus room, for `rallypoint bench peers`.
//
//   node server.mjs default|tuned
//
// default: Colyseus's own timers, a patch every 50 ms beside the step every 50 ms.
// tuned:   no patch timer; the step ends with the patch, which saves half an interval of delay.
//
// Prints {"port": n}, then answers each line {"seats": n} with n reserved seats
// [process, room, session], eight to a room: matchmaking is not what is compared here.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Room, Server, matchMaker } from "@colyseus/core";
import { MapSchema, schema, t } from "@colyseus/schema";
import { WebSocketTransport } from "@colyseus/ws-transport";

const SIZE = 1000;
const SPEED = 200;
const HZ = 20;
const SEATS = 8;
const tuned = process.argv[2] === "tuned";

const Player = schema({ x: t.float32(), y: t.float32(), vx: t.float32(), vy: t.float32() }, "Player");
const State = schema({ players: t.map(Player) }, "State");
const Wanted = schema({ vx: t.float32(), vy: t.float32() }, "Wanted");

const RANGE = { min: -SPEED, max: SPEED };

class Drift extends Room {
  maxClients = SEATS;
  autoDispose = true;
  inputs = this.defineInput(Wanted, { sanitize: { vx: RANGE, vy: RANGE } });

  onCreate() {
    this.state = new State();
    this.state.players = new MapSchema();
    this.setFixedTimestep((step) => {
      this.move(step.dt);
      if (tuned) this.broadcastPatch();
    }, HZ);
    // Only now: without a step yet, a patch rate of null starts another timer that takes the clock's
    // time away from the step.
    if (tuned) this.patchRate = null;
  }

  onJoin(client) {
    const player = new Player();
    player.x = Math.floor(Math.random() * SIZE);
    player.y = Math.floor(Math.random() * SIZE);
    player.vx = 0;
    player.vy = 0;
    this.state.players.set(client.sessionId, player);
  }

  onLeave(client) {
    this.state.players.delete(client.sessionId);
  }

  move(dt) {
    this.state.players.forEach((player, sessionId) => {
      for (const wanted of this.inputs.get(sessionId)) {
        player.vx = wanted.vx;
        player.vy = wanted.vy;
      }
      const x = player.x + player.vx * dt;
      const y = player.y + player.vy * dt;
      if (x < 0 || x > SIZE) player.vx = -player.vx;
      if (y < 0 || y > SIZE) player.vy = -player.vy;
      player.x = Math.min(Math.max(x, 0), SIZE);
      player.y = Math.min(Math.max(y, 0), SIZE);
    });
  }
}

async function reserve(count) {
  const seats = [];
  while (seats.length < count) {
    const room = await matchMaker.createRoom("drift", {});
    for (let n = 0; n < SEATS && seats.length < count; n++) {
      const seat = await matchMaker.joinById(room.roomId, {});
      seats.push([seat.processId, seat.roomId, seat.sessionId]);
    }
  }
  return seats;
}

const http = createServer();
const server = new Server({ greet: false, transport: new WebSocketTransport({ server: http }) });
server.define("drift", Drift);
await server.listen(0, "127.0.0.1");
console.log(JSON.stringify({ port: http.address().port }));

for await (const line of createInterface({ input: process.stdin })) {
  const { seats } = JSON.parse(line);
  console.log(JSON.stringify({ seats: await reserve(seats) }));
}
process.exit(0);
