// What carries calls: fetch, or one WebSocket. Messages are bytes here.

/** One request as it goes out. */
export interface Call {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly message: Uint8Array;
  readonly signal: AbortSignal;
  readonly token?: string | undefined;
  readonly deadlineMs?: number;
  readonly keepalive?: boolean;
}

/** Told the bytes of every chunk received and every request sent. */
export type OnTraffic = (traffic: { readonly received: number; readonly sent: number }) => void;

export interface Transport {
  /** The one message of the answer; rejects with the status of a call that failed. */
  unary(call: Call): Promise<Uint8Array>;
  /** The messages of a stream; an error status is thrown at the end. */
  stream(call: Call): AsyncGenerator<Uint8Array, void, undefined>;
}
