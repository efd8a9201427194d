// A gateway small enough for unit tests: a real HTTP server on a free port that speaks gRPC-Web.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { FrameReader, frameOf } from "../src/rpc/framing";

export interface Refusal {
  readonly code: number;
  readonly message?: string;
  /** Send the status in HTTP headers without a body, as some servers do. */
  readonly inHeaders?: boolean;
}

export interface Caller<O> {
  readonly token: string;
  send(message: O): void;
  end(refusal?: Refusal): void;
  /** Break the connection in the middle. */
  cut(): void;
}

type Handler = (request: never, caller: Caller<never>) => void;

export class SmallGateway {
  readonly #handlers = new Map<string, { method: DescMethod; handler: Handler }>();
  readonly #server: Server;
  /** Paths in the order of their calls. */
  readonly calls: string[] = [];

  constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  on<I extends DescMessage, O extends DescMessage>(
    method: DescMethod & { readonly input: I; readonly output: O },
    handler: (request: MessageShape<I>, caller: Caller<MessageInitShape<O>>) => void,
  ): void {
    this.#handlers.set(`/${method.parent.typeName}/${method.name}`, { method, handler: handler as unknown as Handler });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    this.calls.push(path.split("/").at(-1) ?? "");
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const known = this.#handlers.get(path);
    if (!known) return void response.writeHead(404).end();
    const [part] = new FrameReader().push(Buffer.concat(chunks));
    const message = fromBinary(known.method.input, part?.kind === "message" ? part.data : new Uint8Array());
    known.handler(message as never, callerOf(known.method, request, response) as never);
  }
}

function callerOf(method: DescMethod, request: IncomingMessage, response: ServerResponse): Caller<object> {
  const open = (): void => {
    if (!response.headersSent) response.writeHead(200, { "content-type": "application/grpc-web+proto" });
  };
  return {
    token: (request.headers.authorization ?? "").replace("Bearer ", ""),
    send: (message) => {
      open();
      response.write(frameOf(toBinary(method.output, create(method.output, message as never))));
    },
    end: (refusal) => {
      const status = { "grpc-status": String(refusal?.code ?? 0), "grpc-message": refusal?.message ?? "" };
      if (refusal?.inHeaders) return void response.writeHead(200, status).end();
      open();
      const text = new TextEncoder().encode(Object.entries(status).map(([name, value]) => `${name}: ${value}`).join("\r\n"));
      const frame = frameOf(text);
      frame[0] = 0x80;
      response.end(frame);
    },
    cut: () => response.destroy(),
  };
}

/** A store like localStorage, in memory. */
export class MemoryStore {
  readonly #items = new Map<string, string>();

  getItem(key: string): string | null {
    return this.#items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.#items.set(key, value);
  }

  removeItem(key: string): void {
    this.#items.delete(key);
  }
}

/** Wait until something is so, with a generous cap. */
export async function until(what: () => boolean, withinMs = 10_000): Promise<void> {
  const untilMs = Date.now() + withinMs;
  while (!what()) {
    if (Date.now() > untilMs) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
