// gRPC-Web (binary) over fetch: a POST for each call.
import { Code, RallypointError, codeOfHttp, errorOf } from "./error";
import { FrameReader, broken, frameOf } from "./framing";
import type { Call, OnTraffic, Transport } from "./transport";

export interface FetchOptions {
  /** Where the gateway is; empty for the page's own origin. */
  readonly url: string;
  readonly fetch?: typeof fetch | undefined;
  readonly onTraffic?: OnTraffic | undefined;
}

export class FetchTransport implements Transport {
  readonly #options: FetchOptions;

  constructor(options: FetchOptions) {
    this.#options = options;
  }

  async unary(call: Call): Promise<Uint8Array> {
    const answer = await this.#post(call);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    this.#options.onTraffic?.({ received: bytes.length, sent: 0 });
    return onlyMessage(bytes, answer);
  }

  async *stream(call: Call): AsyncGenerator<Uint8Array, void, undefined> {
    const answer = await this.#post(call);
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

  #post(call: Call): Promise<Response> {
    const headers: Record<string, string> = {
      "content-type": "application/grpc-web+proto",
      "x-grpc-web": "1",
    };
    if (call.token !== undefined) headers["authorization"] = `Bearer ${call.token}`;
    if (call.deadlineMs !== undefined) headers["grpc-timeout"] = `${Math.ceil(call.deadlineMs)}m`;
    const body = frameOf(call.message);
    this.#options.onTraffic?.({ received: 0, sent: body.length });
    return (this.#options.fetch ?? globalThis.fetch)(this.#options.url + call.path, {
      method: "POST",
      headers,
      body,
      signal: call.signal,
      cache: "no-store",
      credentials: "omit",
      keepalive: call.keepalive ?? false,
    });
  }
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
