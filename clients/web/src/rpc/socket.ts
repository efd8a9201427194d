// All calls over one WebSocket, opened by the first call and again by the first one after it broke.
import { SOCKET_PATH, SUBPROTOCOL, answerOf, callOf, cancelOf, headOf } from "./calls";
import { Code, RallypointError, errorOf } from "./error";
import { broken } from "./framing";
import type { Call, OnTraffic, Transport } from "./transport";

export interface SocketOptions {
  /** Where the gateway is, as http: or https:; empty for the page's own origin. */
  readonly url: string;
  readonly webSocket?: typeof WebSocket | undefined;
  readonly onTraffic?: OnTraffic | undefined;
}

export type Failed = (error: RallypointError) => void;

/** A call given up after such a silence takes the connection along: it leads nowhere. */
const SILENT_MS = 1_500;
const CONNECT_MS = 5_000;
/** Inputs wait for the next one rather than behind so many bytes. */
const MOST_BUFFERED = 16 * 1024;
const GOING_AWAY = 1001;
/** First and last numbers; the lowest free one is taken, so a room's stream has number 1. */
const STREAMS = [1, 7] as const;
const LANES = [8, 11] as const;
const UNARY = [16, 255] as const;

export class SocketTransport implements Transport {
  readonly #options: SocketOptions;
  #line: Line | undefined;

  constructor(options: SocketOptions) {
    this.#options = options;
  }

  /** Whether a call would leave at once. */
  get connected(): boolean {
    return this.#line?.ready === true;
  }

  async unary(call: Call): Promise<Uint8Array> {
    try {
      return await this.#once(call);
    } catch (error) {
      if (!(error instanceof RallypointError && error.reason === UNBEGUN)) throw error;
      return this.#once(call);
    }
  }

  async *stream(call: Call): AsyncGenerator<Uint8Array, void, undefined> {
    const line = await this.#open(call.signal);
    const inbox = new Inbox();
    const number = line.begin(STREAMS, call, inbox);
    const stop = leaveOn(call.signal, () => {
      inbox.end(aborted());
      line.giveUp(number);
    });
    try {
      for (let data = await inbox.next(); data; data = await inbox.next()) yield data;
    } finally {
      stop();
      if (!inbox.ended) line.giveUp(number);
    }
  }

  /** Call on a lane, told only of failures. False: not sent, the connection is away or busy. */
  say(call: Pick<Call, "path" | "message" | "token">, failed: Failed): boolean {
    const line = this.#line;
    return line !== undefined && line.say(call, failed);
  }

  close(): void {
    this.#line?.drop();
    this.#line = undefined;
  }

  async #once(call: Call): Promise<Uint8Array> {
    const line = await this.#open(call.signal);
    const inbox = new Inbox();
    const number = line.begin(UNARY, call, inbox);
    const stop = leaveOn(call.signal, () => {
      inbox.end(aborted());
      line.giveUp(number);
    });
    try {
      const message = await inbox.next();
      const more = message && (await inbox.next());
      if (!message || more) throw broken(`${message ? 2 : 0} messages instead of one`);
      return message;
    } finally {
      stop();
    }
  }

  async #open(signal: AbortSignal): Promise<Line> {
    if (signal.aborted) throw aborted();
    const line = this.#line?.closed === false ? this.#line : (this.#line = new Line(this.#options));
    // Who gives up on a connection that is still being made gives up the connection.
    const stop = leaveOn(signal, () => line.drop());
    try {
      await line.opened;
    } catch (error) {
      throw signal.aborted ? aborted() : error;
    } finally {
      stop();
    }
    return line;
  }
}

const UNBEGUN = "UNBEGUN";

interface Receiver {
  message(data: Uint8Array): void;
  end(error?: Error): void;
}

/** What a call has received and nobody has taken yet. */
class Inbox implements Receiver {
  readonly #messages: Uint8Array[] = [];
  #error: Error | undefined;
  #wake: (() => void) | undefined;
  ended = false;

  message(data: Uint8Array): void {
    this.#messages.push(data);
    this.#wake?.();
  }

  end(error?: Error): void {
    if (this.ended) return;
    this.ended = true;
    this.#error = error;
    this.#wake?.();
  }

  /** The next message; undefined at the end, or thrown what ended it. */
  async next(): Promise<Uint8Array | undefined> {
    while (this.#messages.length === 0 && !this.ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#messages.shift();
    if (message === undefined && this.#error) throw this.#error;
    return message;
  }
}

/** A number that keeps its head, and who hears of failures. */
class Lane implements Receiver {
  token: string | undefined;
  begun = false;

  constructor(
    readonly number: number,
    public failed: Failed,
  ) {}

  message(): void {}

  end(error?: Error): void {
    if (!(error instanceof RallypointError)) return;
    if (error.reason === "HEAD_MISSING") this.begun = false;
    this.failed(error);
  }
}

/** One connection. */
class Line {
  readonly #socket: WebSocket;
  readonly #onTraffic: OnTraffic | undefined;
  readonly #receivers = new Map<number, Receiver>();
  readonly #lanes = new Map<string, Lane>();
  readonly opened: Promise<void>;
  #settle: { readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined;
  #heardMs = 0;
  closed = false;

  constructor(options: SocketOptions) {
    this.#onTraffic = options.onTraffic;
    this.opened = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.opened.catch(() => undefined);
    this.#socket = new (options.webSocket ?? WebSocket)(addressOf(options.url), SUBPROTOCOL);
    this.#socket.binaryType = "arraybuffer";
    const slow = setTimeout(() => this.drop(), CONNECT_MS);
    this.#socket.onopen = () => {
      clearTimeout(slow);
      this.#settle?.resolve();
    };
    this.#socket.onmessage = (event) => this.#take(event.data as ArrayBuffer);
    this.#socket.onclose = (event) => {
      clearTimeout(slow);
      this.#lose(closing(event.code, event.reason));
    };
  }

  get ready(): boolean {
    return !this.closed && this.#socket.readyState === OPEN;
  }

  /** Begin a call under the lowest free number of a range. */
  begin(range: readonly [number, number], call: Call, receiver: Receiver): number {
    const number = this.#free(range);
    // Nobody has waited for anything until now, so the silence begins here.
    if (this.#receivers.size === this.#lanes.size) this.#heardMs = performance.now();
    this.#receivers.set(number, receiver);
    this.#send(callOf(number, headOf(call), call.message));
    return number;
  }

  say(call: Pick<Call, "path" | "message" | "token">, failed: Failed): boolean {
    if (!this.ready || this.#socket.bufferedAmount > MOST_BUFFERED) return false;
    let lane = this.#lanes.get(call.path);
    if (!lane) {
      lane = new Lane(this.#free(LANES), failed);
      this.#lanes.set(call.path, lane);
      this.#receivers.set(lane.number, lane);
    }
    const head = lane.begun && lane.token === call.token ? undefined : headOf({ ...call, lane: true });
    lane.token = call.token;
    lane.begun = true;
    lane.failed = failed;
    this.#send(callOf(lane.number, head, call.message));
    return true;
  }

  /**
   * End a call from here, and the connection too if nothing has come for long. The number is free once
   * the server agrees.
   */
  giveUp(number: number): void {
    if (!this.#receivers.has(number)) return;
    if (performance.now() - this.#heardMs > SILENT_MS) this.drop();
    else this.#send(cancelOf(number));
  }

  /** Close at once, whatever the network says. */
  drop(error: Error = unreachable()): void {
    this.#socket.close();
    this.#lose(error);
  }

  #free([first, last]: readonly [number, number]): number {
    for (let number = first; number <= last; number += 1) if (!this.#receivers.has(number)) return number;
    throw new RallypointError({ code: Code.RESOURCE_EXHAUSTED, reason: "CALLS_EXCEEDED", message: "too many calls at once" });
  }

  #send(data: Uint8Array<ArrayBuffer>): void {
    if (!this.ready) return;
    this.#onTraffic?.({ received: 0, sent: data.length });
    this.#socket.send(data);
  }

  #take(buffer: ArrayBuffer): void {
    if (this.closed) return;
    this.#heardMs = performance.now();
    this.#onTraffic?.({ received: buffer.byteLength, sent: 0 });
    try {
      const { number, parts } = answerOf(new Uint8Array(buffer));
      const receiver = this.#receivers.get(number);
      if (!receiver) throw broken("an answer that nobody waits for");
      for (const part of parts) {
        if (part.kind === "message") receiver.message(part.data);
        else {
          if (!(receiver instanceof Lane)) this.#receivers.delete(number);
          receiver.end(errorOf(part.trailers));
        }
      }
    } catch (error) {
      this.drop(error as Error);
    }
  }

  #lose(error: Error): void {
    if (this.closed) return;
    this.closed = true;
    this.#settle?.reject(error);
    for (const receiver of this.#receivers.values()) if (!(receiver instanceof Lane)) receiver.end(error);
    this.#receivers.clear();
  }
}

/** WebSocket.OPEN, also where there is no global WebSocket. */
const OPEN = 1;

function addressOf(url: string): string {
  const base = url === "" ? globalThis.location.origin : url;
  return base.replace(/^http/, "ws") + SOCKET_PATH;
}

/** Call back when the signal is aborted; returns how to stop listening. */
function leaveOn(signal: AbortSignal, leave: () => void): () => void {
  signal.addEventListener("abort", leave, { once: true });
  return () => signal.removeEventListener("abort", leave);
}

function aborted(): Error {
  return new DOMException("the call was given up", "AbortError");
}

function unreachable(): RallypointError {
  return new RallypointError({ code: Code.UNAVAILABLE, reason: "NETWORK", message: "the server cannot be reached" });
}

/** What a closed connection means to the calls on it; those it left unanswered when it went were not begun. */
function closing(code: number, reason: string): RallypointError {
  if (code === GOING_AWAY) return new RallypointError({ code: Code.UNAVAILABLE, reason: UNBEGUN, message: reason });
  if (reason === "") return unreachable();
  return new RallypointError({ code: Code.UNAVAILABLE, reason, message: `the server closed the connection (${code})` });
}
