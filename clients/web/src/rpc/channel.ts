// gRPC-Web (binary) over fetch: unary calls with a deadline, server streams as async iterables.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { Code, RallypointError, codeOfHttp, errorOf } from "./error";
import { FrameReader, broken, frameOf } from "./framing";

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
  readonly fetch?: typeof fetch;
  /** Told the bytes of every chunk received and every request sent. */
  readonly onTraffic?: (traffic: { readonly received: number; readonly sent: number }) => void;
}

const UNARY_DEADLINE_MS = 5_000;

export class Channel {
  readonly #options: ChannelOptions;

  constructor(options: ChannelOptions) {
    this.#options = options;
  }

  /** Call once; after a refused access token once more with a new one. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const body = frameOf(toBinary(method.input, create(method.input, request)));
    const deadlineMs = options.deadlineMs ?? UNARY_DEADLINE_MS;
    const deadline = new Deadline(deadlineMs, options.signal);
    const call = { path: this.#path(method), body, deadlineMs, signal: deadline.signal };
    try {
      return await this.#authenticated(async (token) => {
        const answer = await this.#post({ ...call, token, keepalive: options.keepalive ?? false });
        const bytes = new Uint8Array(await answer.arrayBuffer());
        this.#options.onTraffic?.({ received: bytes.length, sent: 0 });
        return fromBinary(method.output, onlyMessage(bytes, answer));
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
    const body = frameOf(toBinary(method.input, create(method.input, request)));
    const ended = new AbortController();
    const signal = options.signal ? either(options.signal, ended.signal) : ended.signal;
    const call = { path: this.#path(method), body, signal };
    try {
      // A refusal comes before the first message, so that is what the second try is decided by.
      const [first, rest] = await this.#authenticated(async (token) => {
        const messages = this.#messages(await this.#post({ ...call, token }));
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
    const { credentials } = this.#options;
    const token = await credentials?.token();
    try {
      return await attempt(token);
    } catch (error) {
      if (!credentials || token === undefined || !isRefusal(error)) throw error;
      return attempt(await credentials.renew(token));
    }
  }

  async *#messages(answer: Response): AsyncGenerator<Uint8Array, void, undefined> {
    const frames = new FrameReader();
    let last: ReadonlyMap<string, string> | undefined;
    if (!answer.ok && !answer.headers.has("grpc-status")) throw refused(answer);
    for await (const chunk of chunksOf(answer)) {
      this.#options.onTraffic?.({ received: chunk.length, sent: 0 });
      for (const part of frames.push(chunk)) {
        if (part.kind === "message") yield part.data;
        else last = part.trailers;
      }
    }
    frames.finish();
    const failed = errorOf(last ?? trailersIn(answer.headers) ?? cutShort());
    if (failed) throw failed;
  }

  #path(method: { readonly parent: { readonly typeName: string }; readonly name: string }): string {
    return `${this.#options.url}/${method.parent.typeName}/${method.name}`;
  }

  #post(call: Call): Promise<Response> {
    const headers: Record<string, string> = {
      "content-type": "application/grpc-web+proto",
      "x-grpc-web": "1",
    };
    if (call.token !== undefined) headers["authorization"] = `Bearer ${call.token}`;
    if (call.deadlineMs !== undefined) headers["grpc-timeout"] = `${Math.ceil(call.deadlineMs)}m`;
    this.#options.onTraffic?.({ received: 0, sent: call.body.length });
    return (this.#options.fetch ?? globalThis.fetch)(call.path, {
      method: "POST",
      headers,
      body: call.body,
      signal: call.signal,
      cache: "no-store",
      credentials: "omit",
      keepalive: call.keepalive ?? false,
    });
  }
}

/** One request as it goes out. */
interface Call {
  readonly path: string;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly signal: AbortSignal;
  readonly token?: string | undefined;
  readonly deadlineMs?: number;
  readonly keepalive?: boolean;
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

async function* chunksOf(answer: Response): AsyncGenerator<Uint8Array, void, undefined> {
  if (!answer.body) return;
  const reader = answer.body.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** The status an answer without a body carries in its headers. */
function trailersIn(headers: Headers): ReadonlyMap<string, string> | undefined {
  if (!headers.has("grpc-status")) return undefined;
  const names = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
  return new Map(names.flatMap((name) => (headers.has(name) ? [[name, headers.get(name) ?? ""]] : [])));
}

function onlyMessage(bytes: Uint8Array, answer: Response): Uint8Array {
  if (!answer.ok && !answer.headers.has("grpc-status")) throw refused(answer);
  const frames = new FrameReader();
  const parts = frames.push(bytes);
  frames.finish();
  const end = parts.find((part) => part.kind === "trailers");
  const failed = errorOf(end?.trailers ?? trailersIn(answer.headers) ?? cutShort());
  if (failed) throw failed;
  const messages = parts.filter((part) => part.kind === "message");
  if (messages.length !== 1 || !messages[0]) throw broken(`${messages.length} messages instead of one`);
  return messages[0].data;
}

function refused(answer: Response): RallypointError {
  return new RallypointError({
    code: codeOfHttp(answer.status),
    reason: "HTTP",
    message: `the server answered HTTP ${answer.status}`,
  });
}

/** A body that ends without trailers was cut, by a proxy or a crash. */
function cutShort(): ReadonlyMap<string, string> {
  return new Map([["grpc-status", String(Code.UNAVAILABLE)], ["grpc-message", "the stream was cut"]]);
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
