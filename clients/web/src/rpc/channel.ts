// Typed calls to a gateway: unary ones with a deadline, server streams as async iterables. They go over
// fetch, or over one WebSocket if that is asked for (docs/wire.md §1 and §8).
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { Code, RallypointError } from "./error";
import { FetchTransport } from "./fetch";
import { SocketTransport } from "./socket";
import type { Failed } from "./socket";
import type { OnTraffic, Transport } from "./transport";

/** Who calls: gives the access token, and a new one after a refusal. */
export interface Credentials {
  /** A token good for a while yet. */
  token(): Promise<string>;
  /** A token other than `refused`, which the server did not take. */
  renew(refused: string): Promise<string>;
}

export interface CallOptions {
  /** Give up after this long; unary calls only. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
  /** Let the request outlive the page; for the last word of a tab. */
  readonly keepalive?: boolean;
}

export interface ChannelOptions {
  /** Where the gateway is, without a slash at the end; empty for the page's own origin. */
  readonly url: string;
  readonly credentials?: Credentials;
  /** How calls are carried; over `fetch` unless said otherwise. */
  readonly transport?: TransportName;
  readonly fetch?: typeof fetch;
  readonly webSocket?: typeof WebSocket;
  readonly onTraffic?: OnTraffic;
}

export type TransportName = "fetch" | "websocket";

const UNARY_DEADLINE_MS = 5_000;

export class Channel {
  readonly #credentials: Credentials | undefined;
  readonly #fetch: FetchTransport;
  readonly #socket: SocketTransport | undefined;

  constructor(options: ChannelOptions) {
    this.#credentials = options.credentials;
    this.#fetch = new FetchTransport(options);
    this.#socket = options.transport === "websocket" ? new SocketTransport(options) : undefined;
  }

  /** Whether `say` works: calls of which only a failure is told. */
  get quiet(): boolean {
    return this.#socket !== undefined;
  }

  /** Call once; after a refused access token once more with a new one. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const message = toBinary(method.input, create(method.input, request));
    const deadlineMs = options.deadlineMs ?? UNARY_DEADLINE_MS;
    const deadline = new Deadline(deadlineMs, options.signal);
    const keepalive = options.keepalive ?? false;
    const call = { path: pathOf(method), message, deadlineMs, signal: deadline.signal, keepalive };
    // Only fetch outlives a page; what an open connection is given leaves at once.
    const transport = keepalive && !this.#socket?.connected ? this.#fetch : this.#transport;
    try {
      return await this.#authenticated(async (token) => {
        return fromBinary(method.output, await transport.unary({ ...call, token }));
      });
    } catch (error) {
      throw asRallypoint(error, deadline);
    } finally {
      deadline.stop();
    }
  }

  /** Open a stream. Leaving the loop ends the call; an error status is thrown at the end. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const message = toBinary(method.input, create(method.input, request));
    const ended = new AbortController();
    const signal = options.signal ? either(options.signal, ended.signal) : ended.signal;
    const call = { path: pathOf(method), message, signal };
    try {
      // A refusal comes before the first message, so that is what the second try is decided by.
      const [first, rest] = await this.#authenticated(async (token) => {
        const messages = this.#transport.stream({ ...call, token });
        return [await messages.next(), messages] as const;
      });
      if (first.done) return;
      yield fromBinary(method.output, first.value);
      for await (const message of rest) yield fromBinary(method.output, message);
    } catch (error) {
      throw asRallypoint(error);
    } finally {
      ended.abort();
    }
  }

  async #authenticated<T>(attempt: (token: string | undefined) => Promise<T>): Promise<T> {
    const credentials = this.#credentials;
    const token = await credentials?.token();
    try {
      return await attempt(token);
    } catch (error) {
      if (!credentials || token === undefined || !isRefusal(error)) throw error;
      return attempt(await credentials.renew(token));
    }
  }

  /**
   * Call without waiting for an answer; `failed` is told if something went wrong. False: it was not
   * sent, because the connection is away or busy.
   */
  async say<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    failed: Failed,
  ): Promise<boolean> {
    const token = await this.#credentials?.token();
    const message = toBinary(method.input, create(method.input, request));
    const call = { path: pathOf(method), message, token };
    return this.#socket?.say(call, (error) => {
      if (token !== undefined && isRefusal(error)) this.#credentials?.renew(token).catch(() => undefined);
      failed(error);
    }) ?? false;
  }

  /** Drop the connection, if one is kept. The channel can still be used: a call opens it again. */
  close(): void {
    this.#socket?.close();
  }

  get #transport(): Transport {
    return this.#socket ?? this.#fetch;
  }
}

function pathOf(method: { readonly parent: { readonly typeName: string }; readonly name: string }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function isRefusal(error: unknown): boolean {
  return error instanceof RallypointError && error.code === Code.UNAUTHENTICATED;
}

/** A time limit that also follows a caller's signal, and remembers which of the two struck. */
class Deadline {
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly signal: AbortSignal;
  struck = false;

  constructor(deadlineMs: number, outer?: AbortSignal) {
    this.signal = outer ? either(outer, this.#controller.signal) : this.#controller.signal;
    this.#timer = setTimeout(() => {
      this.struck = true;
      this.#controller.abort();
    }, deadlineMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function either(left: AbortSignal, right: AbortSignal): AbortSignal {
  const both = new AbortController();
  const abort = () => both.abort();
  for (const signal of [left, right]) {
    if (signal.aborted) both.abort();
    else signal.addEventListener("abort", abort, { once: true, signal: both.signal });
  }
  return both.signal;
}

function asRallypoint(error: unknown, timer?: Deadline): RallypointError {
  if (error instanceof RallypointError) return error;
  const cause = { cause: error };
  if (timer?.struck) {
    const message = "the server did not answer in time";
    return new RallypointError({ code: Code.DEADLINE_EXCEEDED, reason: "DEADLINE", message }, cause);
  }
  if (error instanceof DOMException && error.name === "AbortError") {
    return new RallypointError({ code: Code.CANCELLED, reason: "CANCELLED", message: "cancelled" }, cause);
  }
  if (error instanceof TypeError) {
    const message = "the server cannot be reached";
    return new RallypointError({ code: Code.UNAVAILABLE, reason: "NETWORK", message }, cause);
  }
  return new RallypointError({ code: Code.INTERNAL, reason: "PROTOCOL", message: String(error) }, cause);
}
