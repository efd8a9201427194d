// A seat in a room, kept through lost streams: one server stream down, unary calls up.
//
//   connecting ─▶ live ⇄ reconnecting ─▶ ended
//
// The stream is given up after 2 s of silence, the server's keep-alive comes after 0.5 s. Every new
// stream offers both seat tokens and begins with a keyframe; inputs that were not applied go along
// with the next ones.
import { ControlKind, RoomService } from "../gen/rallypoint/v1/room_pb";
import type { Control, Frame, JoinResponse, MatchResult, SeatInfo, Welcome } from "../gen/rallypoint/v1/room_pb";
import { Backoff, pause } from "../rpc/backoff";
import { Channel } from "../rpc/channel";
import type { ChannelOptions } from "../rpc/channel";
import { Code, RallypointError } from "../rpc/error";
import { InputPacker, Tables, WireError } from "./columns";
import { FrameGate } from "./gate";
import { Outbox } from "./outbox";
import { withToken } from "./seats";
import type { Seat, SeatStore } from "./seats";
import { Meter } from "./stats";
import type { RoomStatistics } from "./stats";

export type RoomState = "connecting" | "live" | "reconnecting" | "ended";

/** How it ended. Only `replaced` leaves the seat to be taken again, by `resume()`. */
export interface Ending {
  readonly how: "closed" | "kicked" | "left" | "replaced" | "refused";
  /** UPPER_SNAKE. */
  readonly reason: string;
  readonly result?: MatchResult | undefined;
}

export interface GameEvent {
  readonly id: number;
  readonly type: number;
  readonly body: Uint8Array;
}

export interface FrameUpdate {
  readonly tick: number;
  readonly keyframe: boolean;
  readonly tables: Tables;
  /** Seq of the newest own input in this state. */
  readonly ackSeq: number;
  readonly events: readonly GameEvent[];
  /** performance.now() of its arrival. */
  readonly atMs: number;
}

export interface RoomHandlers {
  onState?(state: RoomState): void;
  onWelcome?(welcome: Welcome): void;
  onFrame?(update: FrameUpdate): void;
  onSeat?(seat: SeatInfo): void;
  /** What the game says to who is there; what nobody may miss comes as an event of a frame. */
  onMessage?(type: number, body: Uint8Array): void;
  onControl?(kind: ControlKind, reason: string): void;
  onEnded?(ending: Ending): void;
}

export interface RoomOptions {
  readonly channel: Omit<ChannelOptions, "onTraffic">;
  readonly seats: SeatStore;
  readonly seat: Seat;
  readonly handlers: RoomHandlers;
  readonly backoff?: Backoff;
}

interface InputRequest {
  readonly streamToken: Uint8Array;
  readonly ackTick: number;
  readonly firstSeq: number;
  readonly inputs: Uint8Array[];
  readonly viewMs: number;
}

const SILENCE_MS = 2_000;
const FIRST_WORD_MS = 5_000;
/**
 * After a dead network the browser may hand out pooled connections that lead nowhere, so the first
 * tries are short; later ones are longer, for networks that really are slow.
 */
const AGAIN_MS = 2_000;
const AGAIN_MOST_MS = 8_000;
const WATCH_MS = 250;
const MOST_IN_FLIGHT = 2;
const INPUT_DEADLINE_MS = 2_000;
const MESSAGE_TRIES = 6;
const REFUSED_INPUTS = 5;
const FINAL: ReadonlySet<Code> = new Set([
  Code.NOT_FOUND,
  Code.PERMISSION_DENIED,
  Code.FAILED_PRECONDITION,
  Code.INVALID_ARGUMENT,
  Code.UNIMPLEMENTED,
  // The channel has tried a new access token already.
  Code.UNAUTHENTICATED,
]);

export class RoomConnection {
  readonly #options: RoomOptions;
  readonly #channel: Channel;
  readonly #backoff: Backoff;
  readonly #outbox = new Outbox();
  readonly #gate = new FrameGate();
  readonly #meter = new Meter();
  #seat: Seat;
  #state: RoomState = "connecting";
  #welcome: Welcome | undefined;
  #tables: Tables | undefined;
  #packer: InputPacker | undefined;
  #stopped = new AbortController();
  #stream: AbortController | undefined;
  #tick = 0;
  readonly #clientId = Math.floor(Math.random() * 0xffff_ffff) + 1;
  #attempt = 0;
  #streams = 0;
  #inFlight = 0;
  #sentSeq = 0;
  #refusedInputs = 0;
  #leaving = false;
  #slow = false;
  #marginMs = Number.NaN;
  #viewMs = 0;

  constructor(options: RoomOptions) {
    this.#options = options;
    this.#seat = options.seat;
    this.#backoff = options.backoff ?? new Backoff();
    this.#channel = new Channel({
      ...options.channel,
      onTraffic: ({ received, sent }) => this.#meter.traffic(received, sent, performance.now()),
    });
  }

  get state(): RoomState {
    return this.#state;
  }

  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  get tables(): Tables | undefined {
    return this.#tables;
  }

  get tick(): number {
    return this.#tick;
  }

  get epoch(): bigint {
    return this.#gate.epoch;
  }

  statistics(): RoomStatistics {
    const unacked = this.#outbox.unacked.inputs.length;
    const more = { tick: this.#tick, reconnects: Math.max(0, this.#streams - 1), unacked, slow: this.#slow, marginMs: this.#marginMs };
    return this.#meter.statistics(more, performance.now());
  }

  /** Join and stay joined. Resolves when the room has ended for this client. */
  async run(): Promise<void> {
    this.#options.seats.save(this.#seat);
    globalThis.addEventListener?.("online", this.#online);
    try {
      await this.#keepJoined();
    } finally {
      globalThis.removeEventListener?.("online", this.#online);
      if (!this.#leaving) this.#channel.close();
    }
  }

  async #keepJoined(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      let retryAfterMs = 0;
      try {
        if (await this.#follow()) continue;
      } catch (error) {
        retryAfterMs = this.#judge(error);
      }
      if (this.#stopped.signal.aborted) return;
      this.#become("reconnecting");
      await pause(this.#backoff.next(retryAfterMs), this.#stopped.signal);
    }
  }

  /**
   * Make one input; it is sent at once, and again until applied. Returns its seq. For games that
   * judge by what a player saw, `viewTick` is the moment drawn: a tick with its fraction.
   */
  sendInput(values: Readonly<Record<string, number>>, viewTick = 0): number {
    if (!this.#packer) throw new RallypointError({ code: Code.FAILED_PRECONDITION, reason: "NOT_JOINED", message: "no welcome yet" });
    const seq = this.#outbox.add(this.#packer.pack(values));
    this.#viewMs = Math.max(0, Math.round((viewTick * 1000) / (this.#welcome?.tickHz || 1)));
    this.#meter.inputMade(seq, performance.now());
    this.#flush();
    return seq;
  }

  /** The values as the server will read them. */
  quantized(values: Readonly<Record<string, number>>): Record<string, number> {
    return this.#packer?.quantized(values) ?? { ...values };
  }

  /** Send one command and return the game's answer. Retried with the same id until it arrives. */
  async sendMessage(type: number, body: Uint8Array): Promise<Uint8Array> {
    const requestId = this.#seat.nextRequestId;
    this.#keep({ ...this.#seat, nextRequestId: requestId + 1 });
    const backoff = new Backoff();
    for (;;) {
      try {
        const streamToken = this.#welcome?.streamToken ?? new Uint8Array();
        const startedMs = performance.now();
        const answer = await this.#channel.unary(RoomService.method.sendMessage, { streamToken, requestId, type, body });
        this.#meter.roundTrip(performance.now() - startedMs);
        return answer.body;
      } catch (error) {
        // A rate of the game's is for the player to know: it is no fault that goes away by trying.
        const tooMany = error instanceof RallypointError && error.reason === "MESSAGE_RATE";
        const mayRetry = !tooMany && (this.#state === "reconnecting" || (error instanceof RallypointError && error.transient));
        if (!mayRetry || this.#stopped.signal.aborted || backoff.failures >= MESSAGE_TRIES) throw error;
      }
      await pause(backoff.next(), this.#stopped.signal);
    }
  }

  /** Give up the seat for good. */
  async leave(): Promise<void> {
    const streamToken = this.#welcome?.streamToken;
    this.#leaving = true;
    const said = streamToken && this.#channel.unary(RoomService.method.leave, { streamToken }, { keepalive: true });
    this.#end({ how: "left", reason: "LEFT" });
    try {
      await said;
    } finally {
      this.#stream?.abort();
      this.#channel.close();
    }
  }

  /** Let go of the stream and keep the seat: for leaving the page. */
  detach(): void {
    this.#stopped.abort();
    this.#stream?.abort();
  }

  /** Break the stream as a bad network would. For tests and demonstrations. */
  interrupt(): void {
    this.#stream?.abort();
  }

  /** Follow one stream to its end. True: open the next one at once. */
  async #follow(): Promise<boolean> {
    const stream = new AbortController();
    this.#stream = stream;
    const watch = new SilenceWatch(this.#patienceMs(), () => stream.abort());
    const startedMs = performance.now();
    this.#attempt += 1;
    const request = {
      roomId: this.#seat.roomId,
      seatTokens: [...this.#seat.tokens],
      clientId: this.#clientId,
      attempt: this.#attempt,
    };
    let again = false;
    try {
      for await (const message of this.#channel.stream(RoomService.method.join, request, { signal: stream.signal })) {
        watch.heard(SILENCE_MS);
        if (this.#leaving) continue;
        if (message.kind.case === "welcome") this.#meter.roundTrip(performance.now() - startedMs);
        again = this.#take(message);
        if (again || this.#stopped.signal.aborted) break;
      }
    } finally {
      watch.stop();
    }
    return again;
  }

  /** How long the first word of a stream may take. */
  #patienceMs(): number {
    if (this.#streams === 0) return FIRST_WORD_MS;
    return Math.min(AGAIN_MOST_MS, AGAIN_MS * 1.4 ** this.#backoff.failures);
  }

  /** The network is back: what hangs now was begun on the dead one. */
  readonly #online = (): void => {
    if (this.#state !== "live") this.#stream?.abort();
  };

  #take(message: JoinResponse): boolean {
    switch (message.kind.case) {
      case "welcome":
        this.#begin(message.kind.value);
        return false;
      case "frame":
        return this.#frame(message.kind.value);
      case "control":
        return this.#control(message.kind.value);
      default:
        return false;
    }
  }

  #begin(welcome: Welcome): void {
    if (!this.#gate.begin(welcome.epoch)) {
      throw new RallypointError({ code: Code.UNAVAILABLE, reason: "STALE_EPOCH", message: "an old owner answered" });
    }
    this.#streams += 1;
    this.#slow = false;
    this.#welcome = welcome;
    this.#tables = new Tables(welcome.schema?.tables ?? []);
    this.#packer = new InputPacker(welcome.schema?.input ?? []);
    this.#outbox.resume(welcome.inputSeq);
    this.#sentSeq = 0;
    this.#refusedInputs = 0;
    this.#keep(withToken(this.#seat, welcome.seatToken));
    this.#options.handlers.onWelcome?.(welcome);
  }

  #frame(frame: Frame): boolean {
    const verdict = this.#gate.judge(frame);
    if (verdict !== "apply" || !this.#tables || !this.#welcome) return verdict === "rejoin";
    const keyframe = frame.baseTick === 0;
    this.#tables.apply(frame.sections, keyframe);
    const events = this.#gate.applied(frame);
    const atMs = performance.now();
    this.#tick = frame.tick;
    this.#meter.frame(atMs);
    const seats = this.#tables.table("seats");
    const acked = this.#outbox.acked;
    const row = seats.rows > 1 ? this.#welcome.slot : 0;
    const ackSeq = this.#outbox.acknowledge(seats.get("ack", row));
    const margin = seats.columns.has("margin") ? seats.get("margin", row) : 0;
    this.#marginMs = margin > 0 ? margin - 1 : Number.NaN;
    if (ackSeq > acked) this.#refusedInputs = 0;
    this.#meter.inputApplied(ackSeq, atMs);
    this.#backoff.reset();
    this.#become("live");
    const update = { tick: frame.tick, keyframe, tables: this.#tables, ackSeq, events, atMs };
    this.#options.handlers.onFrame?.(update);
    this.#flush();
    return false;
  }

  #control(control: Control): boolean {
    switch (control.kind) {
      case ControlKind.CLOSED:
        this.#end({ how: "closed", reason: control.reason, result: control.result });
        return false;
      case ControlKind.SLOW:
        this.#slow = control.reason !== "FULL_RATE";
        this.#options.handlers.onControl?.(control.kind, control.reason);
        return false;
      case ControlKind.KICKED:
        // The seat is kept: a new stream, after a pause, may fare better.
        if (control.reason === "SLOW_CONSUMER") {
          throw new RallypointError({ code: Code.UNAVAILABLE, reason: control.reason, message: "this client reads too slowly" });
        }
        this.#end({ how: control.reason === "STREAM_REPLACED" ? "replaced" : "kicked", reason: control.reason });
        return false;
      case ControlKind.RECONNECT:
        return true;
      case ControlKind.SEAT:
        if (control.seat) this.#options.handlers.onSeat?.(control.seat);
        return false;
      case ControlKind.MESSAGE:
        if (control.message) this.#options.handlers.onMessage?.(control.message.type, control.message.body);
        return false;
      default:
        this.#options.handlers.onControl?.(control.kind, control.reason);
        return false;
    }
  }

  /** Decide what a failed stream means; returns how long the server asks to wait. */
  #judge(error: unknown): number {
    if (this.#stopped.signal.aborted) return 0;
    if (error instanceof WireError) return 0;
    if (!(error instanceof RallypointError)) throw error;
    if (error.reason === "STREAM_REPLACED") this.#end({ how: "replaced", reason: error.reason });
    else if (FINAL.has(error.code)) this.#end({ how: "refused", reason: error.reason || (Code[error.code] ?? "") });
    return error.retryAfterMs ?? 0;
  }

  #flush(): void {
    const welcome = this.#welcome;
    if (!welcome || this.#state !== "live" || this.#inFlight >= MOST_IN_FLIGHT) return;
    const { firstSeq, inputs } = this.#outbox.unacked;
    if (inputs.length === 0 || this.#sentSeq === this.#outbox.newest) return;
    this.#sentSeq = this.#outbox.newest;
    const request = { streamToken: welcome.streamToken, ackTick: this.#tick, firstSeq, inputs: [...inputs], viewMs: this.#viewMs };
    if (this.#channel.quiet) return void this.#sayInputs(request);
    this.#inFlight += 1;
    void this.#sendInputs(request).finally(() => {
      this.#inFlight -= 1;
      this.#flush();
    });
  }

  /** Over a WebSocket: no answer, but the `ack` column. What is not sent goes along with the next frame. */
  async #sayInputs(request: InputRequest): Promise<void> {
    const stream = this.#stream;
    try {
      if (await this.#channel.say(RoomService.method.sendInput, request, (error) => this.#inputsRefused(error, stream))) return;
    } catch {
      // No access token: the stream's end is near, and says why.
    }
    this.#sentSeq = 0;
  }

  async #sendInputs(request: InputRequest): Promise<void> {
    const stream = this.#stream;
    const startedMs = performance.now();
    try {
      const options = { deadlineMs: INPUT_DEADLINE_MS, ...(stream && { signal: stream.signal }) };
      await this.#channel.unary(RoomService.method.sendInput, request, options);
      this.#meter.roundTrip(performance.now() - startedMs);
      this.#refusedInputs = 0;
    } catch (error) {
      if (stream?.signal.aborted) return;
      this.#inputsRefused(error, stream);
      await pause(100, stream?.signal);
      this.#sentSeq = 0;
    }
  }

  /** The next input carries these along; a stream whose token is refused needs a new one. */
  #inputsRefused(error: unknown, stream: AbortController | undefined): void {
    this.#refusedInputs += 1;
    if (this.#refusedInputs >= REFUSED_INPUTS && !(error instanceof RallypointError && error.transient)) stream?.abort();
  }

  #keep(seat: Seat): void {
    this.#seat = seat;
    if (!this.#stopped.signal.aborted) this.#options.seats.save(seat);
  }

  #become(state: RoomState): void {
    if (this.#state === state || this.#state === "ended") return;
    this.#state = state;
    this.#options.handlers.onState?.(state);
  }

  #end(ending: Ending): void {
    if (this.#state === "ended") return;
    this.#become("ended");
    this.#stopped.abort();
    // A seat is given up while it has a stream: one without is kept for the grace time.
    if (!this.#leaving) this.#stream?.abort();
    if (ending.how !== "replaced") this.#options.seats.clear();
    this.#options.handlers.onEnded?.(ending);
  }
}

/** Calls back after a silence, but not because this page itself was asleep. */
class SilenceWatch {
  readonly #timer: ReturnType<typeof setInterval>;
  #deadlineMs: number;
  #checkedMs = performance.now();

  constructor(firstWordMs: number, onSilence: () => void) {
    this.#deadlineMs = this.#checkedMs + firstWordMs;
    this.#timer = setInterval(() => {
      const now = performance.now();
      const asleepMs = now - this.#checkedMs - WATCH_MS;
      this.#checkedMs = now;
      if (asleepMs > SILENCE_MS / 2) this.#deadlineMs = now + SILENCE_MS;
      else if (now > this.#deadlineMs) onSilence();
    }, WATCH_MS);
  }

  heard(nextWithinMs: number): void {
    this.#deadlineMs = performance.now() + nextWithinMs;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
