// gRPC-Web frames: `flag:1 length:4 (big endian) data`; bit 7 of the flag marks the trailers.
import { Code, RallypointError } from "./error";

const HEAD = 5;
const TRAILERS = 0x80;
const COMPRESSED = 0x01;
/** No message of this protocol comes near; more is a broken or hostile server. */
export const LARGEST_MESSAGE = 4 * 1024 * 1024;

export type Part =
  | { readonly kind: "message"; readonly data: Uint8Array }
  | { readonly kind: "trailers"; readonly trailers: ReadonlyMap<string, string> };

/** The frame around one message. */
export function frameOf(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const framed = new Uint8Array(HEAD + message.length);
  new DataView(framed.buffer).setUint32(1, message.length);
  framed.set(message, HEAD);
  return framed;
}

/** Cuts a body into frames, whatever chunks it arrives in. */
export class FrameReader {
  #held = new Uint8Array(0);
  #ended = false;

  /** Take a chunk, return what became complete. Throws on anything that cannot be a frame. */
  push(chunk: Uint8Array): Part[] {
    if (chunk.length === 0) return [];
    if (this.#ended) throw broken("bytes after the trailers");
    this.#held = this.#held.length === 0 ? new Uint8Array(chunk) : joined(this.#held, chunk);
    const parts: Part[] = [];
    let at = 0;
    for (let size = this.#sizeAt(at); size !== undefined; size = this.#sizeAt(at)) {
      parts.push(this.#part(at, size));
      at += HEAD + size;
      if (this.#ended && at < this.#held.length) throw broken("bytes after the trailers");
    }
    this.#held = this.#held.subarray(at);
    return parts;
  }

  /** Call at the end of the body: half a frame is an error. */
  finish(): void {
    if (this.#held.length > 0) throw broken("the body ends inside a frame");
  }

  /** The size of the whole frame that starts here, if all of it has arrived. */
  #sizeAt(at: number): number | undefined {
    if (this.#held.length - at < HEAD) return undefined;
    const size = new DataView(this.#held.buffer, this.#held.byteOffset + at + 1, 4).getUint32(0);
    if (size > LARGEST_MESSAGE) throw broken(`a frame of ${size} bytes`);
    return this.#held.length - at - HEAD < size ? undefined : size;
  }

  #part(at: number, size: number): Part {
    const flag = this.#held[at] ?? 0;
    const data = this.#held.slice(at + HEAD, at + HEAD + size);
    if (flag & COMPRESSED) throw broken("a compressed frame was not asked for");
    if ((flag & TRAILERS) === 0) return { kind: "message", data };
    this.#ended = true;
    return { kind: "trailers", trailers: trailersOf(new TextDecoder().decode(data)) };
  }
}

/** Parse `key: value\r\n` lines; the last value of a name wins. */
export function trailersOf(text: string): ReadonlyMap<string, string> {
  const trailers = new Map<string, string>();
  for (const line of text.split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) trailers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  return trailers;
}

function joined(left: Uint8Array, right: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(left.length + right.length);
  both.set(left);
  both.set(right, left.length);
  return both;
}

export function broken(what: string): RallypointError {
  return new RallypointError({ code: Code.INTERNAL, reason: "PROTOCOL", message: what });
}
