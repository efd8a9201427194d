// Rooms of one's own: make one, enter one by its code, look for one.
import { RoomService, RoomVisibility } from "../gen/rallypoint/v1/room_pb";
import type { CreateRoomResponse, JoinByCodeResponse, RoomListing } from "../gen/rallypoint/v1/room_pb";
import { Backoff, pause } from "../rpc/backoff";
import type { Channel } from "../rpc/channel";
import { Code, RallypointError } from "../rpc/error";
import { randomId } from "../session/encoding";

export interface RoomWish {
  readonly game: string;
  /** Show it in the list; otherwise only the code leads to it. */
  readonly listed?: boolean;
  /** The game's options. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Seats; as many as the game has when left out. */
  readonly maxPlayers?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

const TRIES = 4;
const GONE = new Set([Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.PERMISSION_DENIED, Code.RESOURCE_EXHAUSTED]);

export class Rooms {
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** Make a room. Tried again with the same id when the answer is lost, so that one room comes of it. */
  async create(wish: RoomWish): Promise<CreateRoomResponse> {
    const request = {
      requestId: randomId(),
      game: wish.game,
      visibility: wish.listed ? RoomVisibility.LISTED : RoomVisibility.PRIVATE,
      options: new TextEncoder().encode(JSON.stringify(wish.options ?? {})),
      maxPlayers: wish.maxPlayers ?? 0,
      metadata: { ...wish.metadata },
    };
    return this.#again(() => this.#channel.unary(RoomService.method.createRoom, request));
  }

  /** A seat in the room of a code. */
  async join(code: string): Promise<JoinByCodeResponse> {
    return this.#again(() => this.#channel.unary(RoomService.method.joinByCode, { code }));
  }

  /** A seat in the newest open room of a game, or in a listed one of one's own. */
  async joinOrCreate(wish: RoomWish): Promise<{ readonly roomId: string; readonly seatToken: Uint8Array }> {
    const fits = (room: RoomListing): boolean => Object.entries(wish.metadata ?? {}).every(([name, value]) => room.metadata[name] === value);
    for (const room of (await this.open(wish.game)).filter(fits)) {
      try {
        return await this.join(room.code);
      } catch (error) {
        // Over, locked or full by now.
        if (!(error instanceof RallypointError && GONE.has(error.code))) throw error;
      }
    }
    return this.create({ ...wish, listed: true });
  }

  /** Listed rooms that let somebody in now, newest first: the first page. */
  async open(game = ""): Promise<readonly RoomListing[]> {
    const request = { game, hasFreeSeats: true, notLocked: true };
    return (await this.#channel.unary(RoomService.method.listRooms, request)).rooms;
  }

  /** Rooms that let spectators in, newest first: the first page. */
  async watchable(game = ""): Promise<readonly RoomListing[]> {
    return (await this.#channel.unary(RoomService.method.listRooms, { game, spectate: true })).rooms;
  }

  async #again<T>(call: () => Promise<T>): Promise<T> {
    const backoff = new Backoff();
    for (;;) {
      try {
        return await call();
      } catch (error) {
        // A full room, or a rate that is met, is for the player to know.
        const mayHelp = error instanceof RallypointError && error.transient && error.code !== Code.RESOURCE_EXHAUSTED;
        if (!mayHelp || backoff.failures + 1 >= TRIES) throw error;
        await pause(backoff.next(error.retryAfterMs ?? 0));
      }
    }
  }
}
