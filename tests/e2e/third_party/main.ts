// Unmodified gRPC-Web clients of others, called from the page by tests/e2e/test_third_party.py.
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { createClient, ConnectError } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import * as grpcWeb from "grpc-web";
import { MatchmakingService, GetRatingRequestSchema, GetRatingResponseSchema, WatchTicketRequestSchema, WatchTicketResponseSchema } from "./gen/rallypoint/v1/matchmaking_pb";
import { SessionService } from "./gen/rallypoint/v1/session_pb";
import { create } from "@bufbuild/protobuf";

const MATCHMAKING = "/rallypoint.v1.MatchmakingService";
/** Enough to see that it is a stream, not one answer. */
const ENOUGH = 3;

let token = "";
const transport = createGrpcWebTransport({
  baseUrl: location.origin,
  interceptors: [
    (next) => async (request) => {
      if (token) request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    },
  ],
});
const sessions = createClient(SessionService, transport);
const matchmaking = createClient(MatchmakingService, transport);

/** Unary calls through connect-web. */
async function connectUnary(): Promise<string> {
  const deviceSecret = crypto.getRandomValues(new Uint8Array(32));
  const opened = await sessions.openSession({
    credential: { case: "guest", value: { deviceSecret } },
    displayName: "Third",
    game: "skirmish",
    build: "1",
    protocol: 1,
  });
  token = opened.session?.accessToken ?? "";
  return opened.session?.displayName ?? "";
}

/** An error through connect-web: its code and the reason in its details' bytes. */
async function connectError(): Promise<number> {
  try {
    await matchmaking.getTicket({ ticketId: "unknown-ticket", queue: "skirmish" });
    return 0;
  } catch (error) {
    return ConnectError.from(error).code;
  }
}

async function ticket(): Promise<string> {
  const made = await matchmaking.createTicket({ requestId: crypto.randomUUID(), queue: "skirmish" });
  return made.ticket?.ticketId ?? "";
}

/** A server stream through connect-web. */
async function connectStream(): Promise<string[]> {
  const ticketId = await ticket();
  const seen: string[] = [];
  for await (const message of matchmaking.watchTicket({ ticketId, queue: "skirmish" })) {
    seen.push(message.event.case ?? "heartbeat");
    if (seen.length >= ENOUGH) break;
  }
  await matchmaking.cancelTicket({ ticketId, queue: "skirmish" });
  return seen;
}

/** A unary call through grpc-web, in text or binary. */
function grpcWebUnary(format: "text" | "binary"): Promise<number> {
  const client = new grpcWeb.GrpcWebClientBase({ format });
  const method = new grpcWeb.MethodDescriptor(
    `${MATCHMAKING}/GetRating`,
    grpcWeb.MethodType.UNARY,
    Object as never,
    Object as never,
    (request: never) => toBinary(GetRatingRequestSchema, request),
    (bytes: Uint8Array) => fromBinary(GetRatingResponseSchema, bytes),
  );
  const request = create(GetRatingRequestSchema, { queue: "skirmish" });
  return new Promise((resolve, reject) => {
    client.rpcCall(`${location.origin}${MATCHMAKING}/GetRating`, request as never, headers(), method, (error, answer) =>
      error ? reject(error) : resolve((answer as unknown as { rating: { display: number } }).rating.display),
    );
  });
}

/** A server stream through grpc-web, which streams in text only. */
async function grpcWebStream(): Promise<string[]> {
  const ticketId = await ticket();
  const client = new grpcWeb.GrpcWebClientBase({ format: "text" });
  const method = new grpcWeb.MethodDescriptor(
    `${MATCHMAKING}/WatchTicket`,
    grpcWeb.MethodType.SERVER_STREAMING,
    Object as never,
    Object as never,
    (request: never) => toBinary(WatchTicketRequestSchema, request),
    (bytes: Uint8Array) => fromBinary(WatchTicketResponseSchema, bytes),
  );
  const request = create(WatchTicketRequestSchema, { ticketId, queue: "skirmish" });
  const stream = client.serverStreaming(`${location.origin}${MATCHMAKING}/WatchTicket`, request as never, headers(), method);
  const seen: string[] = [];
  await new Promise<void>((resolve, reject) => {
    stream.on("error", (error) => reject(new Error(`${error.code} ${error.message}`)));
    stream.on("data", (message) => {
      seen.push((message as unknown as { event: { case?: string } }).event.case ?? "heartbeat");
      if (seen.length >= ENOUGH) resolve();
    });
  });
  stream.cancel();
  await matchmaking.cancelTicket({ ticketId, queue: "skirmish" });
  return seen;
}

/** The status of a call that grpc-web is refused. */
function grpcWebError(): Promise<number> {
  return grpcWebUnaryOf("").catch((error: { code: number }) => error.code);
}

function grpcWebUnaryOf(bearer: string): Promise<number> {
  const kept = token;
  token = bearer;
  const call = grpcWebUnary("text");
  token = kept;
  return call;
}

function headers(): Record<string, string> {
  return token ? { authorization: `Bearer ${token}` } : {};
}

Object.assign(window, { thirdParty: { connectUnary, connectError, connectStream, grpcWebUnary, grpcWebStream, grpcWebError } });
