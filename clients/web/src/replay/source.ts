// Where the chunks come from: a match one played, any match for operators, or a room that runs.
import { AdminService } from "../gen/rallypoint/v1/admin_pb";
import { ReplayService } from "../gen/rallypoint/v1/replay_pb";
import type { ReplayChunk } from "../gen/rallypoint/v1/replay_pb";
import { secret } from "../operator/api";
import { OFFERS } from "../page/catalog";
import { BUILD, NAME_KEY, PROFILE_KEY } from "../page/profile";
import { Channel } from "../rpc/channel";
import { SessionStore } from "../session/store";

export type Who = "player" | "operator" | "spectator";

/** The player of this browser, or of this tab if that one has a guest of its own. */
export function sessionHere(): SessionStore {
  const profile = sessionStorage.getItem(PROFILE_KEY) ?? "guest";
  return new SessionStore({ url: "", storage: profile === "guest" ? localStorage : sessionStorage, profile });
}

export async function* chunksOf(roomId: string, who: Who, signal: AbortSignal): AsyncGenerator<ReplayChunk, void, undefined> {
  for await (const { chunk } of answersOf(roomId, who, signal)) if (chunk) yield chunk;
}

function answersOf(roomId: string, who: Who, signal: AbortSignal): AsyncGenerator<{ readonly chunk?: ReplayChunk | undefined }, void, undefined> {
  if (who === "operator") {
    const token = (): Promise<string> => Promise.resolve(secret());
    const channel = new Channel({ url: "", credentials: { token, renew: token } });
    return channel.stream(AdminService.method.watchReplay, { roomId }, { signal });
  }
  const session = sessionHere();
  const channel = new Channel({ url: "", credentials: session });
  if (who === "player") return channel.stream(ReplayService.method.playReplay, { roomId }, { signal });
  return spectated(channel, session, roomId, signal);
}

/** Who only watches may never have played here: any session will do. */
async function* spectated(channel: Channel, session: SessionStore, roomId: string, signal: AbortSignal): AsyncGenerator<{ readonly chunk?: ReplayChunk | undefined }, void, undefined> {
  if (!session.current()) await session.open({ displayName: localStorage.getItem(NAME_KEY) ?? "", game: OFFERS[0]?.game ?? "", build: BUILD });
  yield* channel.stream(ReplayService.method.spectateRoom, { roomId }, { signal });
}
