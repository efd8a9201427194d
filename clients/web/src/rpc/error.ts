// Errors say who is to blame: a canonical code, a reason in UPPER_SNAKE, and when to try again.
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb";
import { StatusSchema } from "../gen/google/rpc/status_pb";

/** The canonical gRPC status codes. */
export enum Code {
  OK = 0,
  CANCELLED = 1,
  UNKNOWN = 2,
  INVALID_ARGUMENT = 3,
  DEADLINE_EXCEEDED = 4,
  NOT_FOUND = 5,
  ALREADY_EXISTS = 6,
  PERMISSION_DENIED = 7,
  RESOURCE_EXHAUSTED = 8,
  FAILED_PRECONDITION = 9,
  ABORTED = 10,
  OUT_OF_RANGE = 11,
  UNIMPLEMENTED = 12,
  INTERNAL = 13,
  UNAVAILABLE = 14,
  DATA_LOSS = 15,
  UNAUTHENTICATED = 16,
}

/** What a call that failed tells its caller. */
export interface Failure {
  readonly code: Code;
  /** UPPER_SNAKE; made by the server, or NETWORK, DEADLINE, CANCELLED, PROTOCOL by this client. */
  readonly reason: string;
  readonly message: string;
  /** How long to wait before another try, when the server said so. */
  readonly retryAfterMs?: number | undefined;
  /** The server's facts about the error, for example the id of the ticket that exists. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

/** A failed call. */
export class RallypointError extends Error implements Failure {
  override readonly name = "RallypointError";
  readonly code: Code;
  readonly reason: string;
  readonly retryAfterMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(failure: Failure, options?: ErrorOptions) {
    super(failure.message || failure.reason || (Code[failure.code] ?? "error"), options);
    this.code = failure.code;
    this.reason = failure.reason;
    this.retryAfterMs = failure.retryAfterMs;
    this.metadata = failure.metadata ?? {};
  }

  /** Whether the same call may succeed a little later. */
  get transient(): boolean {
    return TRANSIENT.has(this.code) || (this.code === Code.UNKNOWN && this.reason === "NETWORK");
  }
}

const TRANSIENT: ReadonlySet<Code> = new Set([
  Code.UNAVAILABLE,
  Code.DEADLINE_EXCEEDED,
  Code.RESOURCE_EXHAUSTED,
  Code.INTERNAL,
]);

/** The gRPC code for an HTTP answer that carries no grpc-status. */
export function codeOfHttp(status: number): Code {
  switch (status) {
    case 400:
      return Code.INTERNAL;
    case 401:
      return Code.UNAUTHENTICATED;
    case 403:
      return Code.PERMISSION_DENIED;
    case 404:
      return Code.UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return Code.UNAVAILABLE;
    default:
      return Code.UNKNOWN;
  }
}

/** The error told by trailers, or undefined when they say OK. Names are lower case. */
export function errorOf(trailers: ReadonlyMap<string, string>): RallypointError | undefined {
  const said = trailers.get("grpc-status");
  const code = said !== undefined && /^\d+$/.test(said) ? Number(said) : Code.UNKNOWN;
  if (code === Code.OK) return undefined;
  const message = percentDecoded(trailers.get("grpc-message") ?? "");
  const details = trailers.get("grpc-status-details-bin");
  return new RallypointError({ code, message, ...(details ? readDetails(details) : { reason: "" }) });
}

function readDetails(text: string): Pick<Failure, "reason" | "retryAfterMs" | "metadata"> {
  let reason = "";
  let metadata: Record<string, string> = {};
  let retryAfterMs: number | undefined;
  try {
    for (const any of fromBinary(StatusSchema, bytesOf(text)).details) {
      const info = anyUnpack(any, ErrorInfoSchema);
      if (info) ({ reason, metadata } = info);
      const delay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
      if (delay) retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    }
  } catch {
    // Details are a courtesy: an unreadable one must not hide the status itself.
  }
  return { reason, metadata, retryAfterMs };
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
