// Who plays: a guest's device secret, kept for good; access and refresh tokens, kept while good.
//
// A refresh token works once, so refreshing happens once at a time: within a page by sharing the
// promise, between tabs of a browser by a lock and by reading what the other tab has stored.
import { SessionService } from "../gen/rallypoint/v1/session_pb";
import type { Session } from "../gen/rallypoint/v1/session_pb";
import { Channel } from "../rpc/channel";
import type { Credentials } from "../rpc/channel";
import { Code, RallypointError } from "../rpc/error";
import { fromBase64, lifetimeMs, randomBytes, toBase64 } from "./encoding";

/** The part of localStorage that is used. */
export type KeyValueStore = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export interface Identity {
  /** The wished name; the server may clean it. */
  readonly displayName: string;
  readonly game: string;
  /** The studio's build of the client. */
  readonly build: string;
}

/** A session as it is kept. Times are this device's clock, in ms. */
export interface StoredSession {
  readonly playerId: string;
  readonly displayName: string;
  readonly game: string;
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly refreshAtMs: number;
}

export interface SessionOptions {
  readonly url: string;
  /** Where to keep the secret and the tokens; the same store is the same player. */
  readonly storage: KeyValueStore;
  /** Several guests in one store are told apart by this. */
  readonly profile?: string;
  readonly fetch?: typeof fetch;
  readonly now?: () => number;
}

const PROTOCOL = 1;
const SECRET_BYTES = 32;
/** Renew this long before the access token ends. */
const MARGIN_MS = 60_000;

export class SessionStore implements Credentials {
  readonly #options: SessionOptions;
  readonly #channel: Channel;
  readonly #now: () => number;
  #renewing: Promise<StoredSession> | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#channel = new Channel({ url: options.url, ...(options.fetch && { fetch: options.fetch }) });
    this.#now = options.now ?? Date.now;
  }

  /** The session of an earlier visit, if there is one. */
  current(): StoredSession | undefined {
    const text = this.#options.storage.getItem(this.#key("session"));
    if (text === null) return undefined;
    try {
      return JSON.parse(text) as StoredSession;
    } catch {
      return undefined;
    }
  }

  /** Start a session as this device's guest, or go on with one of the same name and game. */
  async open(identity: Identity): Promise<StoredSession> {
    const kept = this.current();
    const same = kept?.game === identity.game && this.#wished() === identity.displayName;
    if (kept && same && kept.refreshAtMs > this.#now()) return kept;
    this.#options.storage.setItem(this.#key("identity"), JSON.stringify(identity));
    return this.#reopen();
  }

  /** Withdraw the tokens; the device secret stays, so the player is the same next time. */
  async close(): Promise<void> {
    const kept = this.current();
    this.#options.storage.removeItem(this.#key("session"));
    if (!kept) return;
    const authorized = new Channel({
      url: this.#options.url,
      credentials: { token: async () => kept.accessToken, renew: async () => kept.accessToken },
    });
    await authorized.unary(SessionService.method.closeSession, { refreshToken: kept.refreshToken });
  }

  async token(): Promise<string> {
    const kept = this.current();
    if (kept && kept.refreshAtMs > this.#now()) return kept.accessToken;
    return (await this.#renewed(kept?.accessToken ?? "")).accessToken;
  }

  async renew(refused: string): Promise<string> {
    return (await this.#renewed(refused)).accessToken;
  }

  #renewed(refused: string): Promise<StoredSession> {
    this.#renewing ??= this.#alone(() => this.#refresh(refused)).finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #refresh(refused: string): Promise<StoredSession> {
    const kept = this.current();
    // Another tab may have renewed while this one waited for the lock.
    if (kept && kept.accessToken !== refused && kept.refreshAtMs > this.#now()) return kept;
    if (!kept) return this.#reopen();
    try {
      const { refreshToken } = kept;
      const answer = await this.#channel.unary(SessionService.method.refreshSession, { refreshToken });
      return this.#keep(answer.session, kept.game);
    } catch (error) {
      // A used or expired refresh token is no loss to a guest: the device secret opens a new family.
      if (error instanceof RallypointError && error.code === Code.UNAUTHENTICATED) return this.#reopen();
      throw error;
    }
  }

  async #reopen(): Promise<StoredSession> {
    const identity = this.#identity();
    const answer = await this.#channel.unary(SessionService.method.openSession, {
      credential: { case: "guest", value: { deviceSecret: this.#secret() } },
      displayName: identity.displayName,
      game: identity.game,
      build: identity.build,
      protocol: PROTOCOL,
    });
    return this.#keep(answer.session, identity.game);
  }

  #keep(session: Session | undefined, game: string): StoredSession {
    if (!session) throw new RallypointError({ code: Code.INTERNAL, reason: "PROTOCOL", message: "no session" });
    const stored: StoredSession = {
      playerId: session.playerId,
      displayName: session.displayName,
      game,
      accessToken: session.accessToken,
      refreshToken: session.refreshToken,
      refreshAtMs: this.#now() + Math.max(0, lifetimeMs(session.accessToken) - MARGIN_MS),
    };
    this.#options.storage.setItem(this.#key("session"), JSON.stringify(stored));
    return stored;
  }

  #identity(): Identity {
    const text = this.#options.storage.getItem(this.#key("identity"));
    if (text !== null) return JSON.parse(text) as Identity;
    throw new RallypointError({ code: Code.UNAUTHENTICATED, reason: "NO_SESSION", message: "open a session first" });
  }

  #wished(): string | undefined {
    const text = this.#options.storage.getItem(this.#key("identity"));
    return text === null ? undefined : (JSON.parse(text) as Identity).displayName;
  }

  #secret(): Uint8Array {
    const key = this.#key("device");
    const kept = this.#options.storage.getItem(key);
    if (kept !== null) return fromBase64(kept);
    const made = randomBytes(SECRET_BYTES);
    this.#options.storage.setItem(key, toBase64(made));
    return made;
  }

  #key(what: string): string {
    return `rallypoint.${this.#options.profile ?? "guest"}.${what}`;
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    // Web Locks need a secure context; without them the worst case is one reopened session.
    const locks = (globalThis.navigator as Navigator | undefined)?.locks as LockManager | undefined;
    return locks ? await locks.request(this.#key("lock"), work) : await work();
  }
}
