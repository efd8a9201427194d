// Whether a match that one played was recorded: the first answer of its replay tells.
import { ReplayService } from "../gen/rallypoint/v1/replay_pb";
import type { Channel } from "../rpc/channel";

/** From a high tick on, so that only the last chunk is fetched. */
const LAST_TICK = 0xffffffff;

export async function isRecorded(channel: Channel, roomId: string): Promise<boolean> {
  try {
    for await (const answer of channel.stream(ReplayService.method.playReplay, { roomId, fromTick: LAST_TICK })) {
      if (answer.chunk) return true;
    }
  } catch {
    // Not recorded, or not to be had now.
  }
  return false;
}
