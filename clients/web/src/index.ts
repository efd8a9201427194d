// Rallypoint for browsers: what a game imports.
export { Channel, type CallOptions, type ChannelOptions, type Credentials, type TransportName } from "./rpc/channel";
export { Code, RallypointError, type Failure } from "./rpc/error";
export { Backoff, type BackoffOptions } from "./rpc/backoff";
export { SessionStore, type Identity, type KeyValueStore, type SessionOptions, type StoredSession } from "./session/store";
export { Matchmaker, type MatchmakerOptions, type Search, type SearchEvent } from "./match/find";
export { Rooms, type RoomWish } from "./match/rooms";
export { InputPacker, Table, Tables, WireError, type ColumnSpec, type TableSpec } from "./room/columns";
export { RoomConnection, type Ending, type FrameUpdate, type GameEvent, type RoomHandlers, type RoomOptions, type RoomState } from "./room/connection";
export { SeatStore, type Seat } from "./room/seats";
export { type RoomStatistics } from "./room/stats";
export { Reconciler, type Prediction } from "./play/reconciler";
export { SendClock } from "./play/send_clock";
export { Interpolator, mixed, mixedAngle, type InterpolatorOptions } from "./play/interpolator";
export * from "./gen/rallypoint/v1/matchmaking_pb";
export * from "./gen/rallypoint/v1/room_pb";
export * from "./gen/rallypoint/v1/session_pb";
