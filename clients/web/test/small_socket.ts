// A WebSocket for unit tests: both ends in this process, the messages in order and one turn later.
import { frameOf } from "../src/rpc/framing";

type Taken = (number: number, head: ReadonlyMap<string, string>, body: Uint8Array | undefined) => void;

/** The server's end of one connection. */
export class Socket {
  readyState = 0;
  bufferedAmount = 0;
  binaryType = "arraybuffer";
  onopen?: () => void;
  onmessage?: (event: { data: ArrayBuffer }) => void;
  onclose?: (event: { code: number; reason: string }) => void;
  /** What the client sent, as it was. */
  readonly sent: Uint8Array[] = [];
  taken: Taken = () => undefined;

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {}

  send(data: Uint8Array): void {
    this.sent.push(data.slice());
    queueMicrotask(() => this.#serve(data));
  }

  close(): void {
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  /** The connection is gone, or the server closed it. */
  gone(code = 1006, reason = ""): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  message(number: number, body: Uint8Array): void {
    this.#deliver(Uint8Array.of(number, ...frameOf(body)));
  }

  end(number: number, code = 0, text = ""): void {
    const frame = frameOf(new TextEncoder().encode(`grpc-status: ${code}\r\ngrpc-message: ${text}\r\n`));
    frame[0] = 0x80;
    this.#deliver(Uint8Array.of(number, ...frame));
  }

  #deliver(data: Uint8Array<ArrayBuffer>): void {
    if (this.readyState === 1) this.onmessage?.({ data: data.buffer });
  }

  #serve(data: Uint8Array): void {
    const head = new Map<string, string>();
    let at = 1;
    if (data[at] === 0x80) {
      const size = new DataView(data.buffer, data.byteOffset + at + 1, 4).getUint32(0);
      for (const line of new TextDecoder().decode(data.subarray(at + 5, at + 5 + size)).split("\r\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) head.set(line.slice(0, colon), line.slice(colon + 2));
      }
      at += 5 + size;
    }
    this.taken(data[0] ?? 0, head, at < data.length ? data.subarray(at + 5) : undefined);
  }
}

/** What a client is given as its WebSocket, and every connection it made. */
export class SocketServer {
  readonly sockets: Socket[] = [];
  readonly webSocket: typeof WebSocket;
  /** New connections open by themselves. */
  opens = true;

  constructor(taken: (socket: Socket) => Taken) {
    const server = this;
    this.webSocket = class extends Socket {
      constructor(url: string, protocol: string) {
        super(url, protocol);
        this.taken = taken(this);
        server.sockets.push(this);
        if (server.opens) queueMicrotask(() => this.open());
      }
    } as unknown as typeof WebSocket;
  }

  get latest(): Socket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("no connection was made");
    return socket;
  }
}
