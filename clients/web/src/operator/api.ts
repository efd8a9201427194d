// AdminService in the name of whoever holds the secret.
import { AdminService } from "../gen/rallypoint/v1/admin_pb";
import type { GetLiveRoomResponse, ListLiveRoomsResponse, ReplayListing } from "../gen/rallypoint/v1/admin_pb";
import { Channel } from "../rpc/channel";

const KEY = "rallypoint.operator";

export class OperatorApi {
  readonly #channel: Channel;

  constructor() {
    const token = (): Promise<string> => Promise.resolve(secret());
    this.#channel = new Channel({ url: "", credentials: { token, renew: token } });
  }

  list(): Promise<ListLiveRoomsResponse> {
    return this.#channel.unary(AdminService.method.listLiveRooms, {});
  }

  show(roomId: string): Promise<GetLiveRoomResponse> {
    return this.#channel.unary(AdminService.method.getLiveRoom, { roomId });
  }

  async replays(): Promise<readonly ReplayListing[]> {
    return (await this.#channel.unary(AdminService.method.listReplays, { limit: 50 })).replays;
  }

  async kick(roomId: string, seat: { slot: number; playerId: string }, reason: string): Promise<void> {
    await this.#channel.unary(AdminService.method.kickPlayer, { roomId, ...seat, reason });
  }

  async close(roomId: string, reason: string): Promise<void> {
    await this.#channel.unary(AdminService.method.closeRoom, { roomId, reason });
  }
}

/** The secret of this tab: typed in, or brought by the link that `rallypoint up` prints. */
export function secret(): string {
  return sessionStorage.getItem(KEY) ?? "";
}

export function keepSecret(value: string): void {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** The secret behind a `#`; one that is no encoded text is taken as it stands. */
export function secretIn(hash: string): string {
  const text = hash.slice(1);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Take the secret out of the address, where it would be seen and remembered. */
export function takeSecretFromAddress(): void {
  const brought = secretIn(location.hash);
  if (!brought) return;
  keepSecret(brought);
  history.replaceState(null, "", location.pathname);
}
