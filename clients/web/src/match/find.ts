// From "Play" to a seat: one ticket, its events as an async iterable, kept through lost streams.
import { MatchmakingService, TicketState } from "../gen/rallypoint/v1/matchmaking_pb";
import type {
  Assignment,
  MatchedPlayer,
  QueueProgress,
  Rating,
  Ticket,
  WatchTicketResponse,
} from "../gen/rallypoint/v1/matchmaking_pb";
import { Backoff, pause } from "../rpc/backoff";
import type { Channel } from "../rpc/channel";
import { Code, RallypointError } from "../rpc/error";
import { randomId } from "../session/encoding";
import type { KeyValueStore } from "../session/store";

/** The search this tab is in, kept for a reload. */
export interface Search {
  readonly queue: string;
  readonly requestId: string;
  readonly ticketId: string;
}

export type SearchEvent =
  | { readonly kind: "queued"; readonly progress: QueueProgress }
  | { readonly kind: "proposed"; readonly matchId: string; readonly players: readonly MatchedPlayer[] }
  | { readonly kind: "requeued"; readonly reason: string }
  | { readonly kind: "assigned"; readonly assignment: Assignment }
  | { readonly kind: "ended"; readonly state: TicketState }
  | { readonly kind: "interrupted" };

export interface MatchmakerOptions {
  readonly channel: Channel;
  readonly storage: KeyValueStore;
  readonly backoff?: Backoff;
}

const KEY = "rallypoint.search";
/** Three missed heartbeats of 5 s. */
const SILENCE_MS = 15_000;

export class Matchmaker {
  readonly #channel: Channel;
  readonly #storage: KeyValueStore;
  readonly #backoff: Backoff;
  #creating: Promise<Search> | undefined;

  constructor(options: MatchmakerOptions) {
    this.#channel = options.channel;
    this.#storage = options.storage;
    this.#backoff = options.backoff ?? new Backoff();
  }

  /** The search a reload interrupted. */
  pending(): Search | undefined {
    const text = this.#storage.getItem(KEY);
    return text === null ? undefined : (JSON.parse(text) as Search);
  }

  /**
   * Enter the queue, or go on with the pending search in it, and tell what happens until the ticket
   * has ended. Throws ALREADY_EXISTS `TICKET_EXISTS` when another tab of this player searches.
   */
  async *find(queue: string, signal?: AbortSignal): AsyncGenerator<SearchEvent, void, undefined> {
    const pending = this.pending();
    let search = pending?.queue === queue ? pending : this.#keep({ queue, requestId: randomId(), ticketId: "" });
    let afterSeq = 0n;
    while (!signal?.aborted) {
      try {
        if (search.ticketId === "") search = await this.#create(search);
        for await (const message of this.#watch(search, afterSeq, signal)) {
          this.#backoff.reset();
          afterSeq = message.seq > afterSeq ? message.seq : afterSeq;
          const event = eventOf(message);
          if (!event) continue;
          if (event.kind === "assigned" || event.kind === "ended") this.forget();
          yield event;
          if (event.kind === "assigned" || event.kind === "ended") return;
        }
      } catch (error) {
        if (signal?.aborted) return;
        const lost = error instanceof RallypointError && error.code === Code.NOT_FOUND && search.ticketId !== "";
        if (lost) {
          // The store was lost: the same request_id makes the ticket anew, and only once.
          search = this.#keep({ ...search, ticketId: "" });
          afterSeq = 0n;
        } else if (!mayRetry(error)) {
          this.forget();
          throw error;
        }
        yield { kind: "interrupted" };
      }
      await pause(this.#backoff.next(), signal);
    }
  }

  /** Follow the live ticket that another tab of this player made. */
  adopt(queue: string, ticketId: string): void {
    this.#keep({ queue, requestId: randomId(), ticketId });
  }

  /** Leave the queue. False: too late, a match holds the ticket. */
  async cancel(): Promise<boolean> {
    // A ticket under way is known only when its answer is here; left alone it would search on.
    const search = (await this.#creating?.catch(() => undefined)) ?? this.pending();
    this.forget();
    if (!search || search.ticketId === "") return true;
    try {
      const { queue, ticketId } = search;
      await this.#channel.unary(MatchmakingService.method.cancelTicket, { queue, ticketId });
      return true;
    } catch (error) {
      if (error instanceof RallypointError && error.reason === "TICKET_MATCHED") return false;
      if (error instanceof RallypointError && error.code === Code.NOT_FOUND) return true;
      throw error;
    }
  }

  forget(): void {
    this.#storage.removeItem(KEY);
  }

  async rating(queue: string): Promise<Rating | undefined> {
    return (await this.#channel.unary(MatchmakingService.method.getRating, { queue })).rating;
  }

  /** Wait until the rating has this match in it; undefined when that takes too long. */
  async ratingAfter(queue: string, matchId: string, withinMs = 15_000): Promise<Rating | undefined> {
    const untilMs = Date.now() + withinMs;
    for (let waitMs = 150; Date.now() < untilMs; waitMs = Math.min(1_000, waitMs * 1.6)) {
      try {
        const rating = await this.rating(queue);
        if (rating?.lastMatchId === matchId) return rating;
      } catch (error) {
        if (!mayRetry(error)) throw error;
      }
      await pause(waitMs);
    }
    return undefined;
  }

  async #create(search: Search): Promise<Search> {
    this.#creating = this.#ask(search);
    try {
      return await this.#creating;
    } finally {
      this.#creating = undefined;
    }
  }

  async #ask(search: Search): Promise<Search> {
    const { queue, requestId } = search;
    const { ticket } = await this.#channel.unary(MatchmakingService.method.createTicket, { queue, requestId });
    return this.#keep({ ...search, ticketId: (ticket as Ticket).ticketId });
  }

  /** One WatchTicket stream, given up after a silence. */
  async *#watch(search: Search, afterSeq: bigint, signal?: AbortSignal): AsyncGenerator<WatchTicketResponse> {
    const stream = new AbortController();
    const abort = () => stream.abort();
    signal?.addEventListener("abort", abort, { once: true });
    let timer = setTimeout(abort, SILENCE_MS);
    const { queue, ticketId } = search;
    const request = { queue, ticketId, afterSeq };
    try {
      for await (const message of this.#channel.stream(MatchmakingService.method.watchTicket, request, { signal: stream.signal })) {
        clearTimeout(timer);
        timer = setTimeout(abort, SILENCE_MS);
        yield message;
      }
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      stream.abort();
    }
  }

  #keep(search: Search): Search {
    this.#storage.setItem(KEY, JSON.stringify(search));
    return search;
  }
}

function eventOf(message: WatchTicketResponse): SearchEvent | undefined {
  const { event } = message;
  switch (event.case) {
    case "queued":
    case "expanded":
      return { kind: "queued", progress: event.value };
    case "proposed":
      return { kind: "proposed", matchId: event.value.matchId, players: event.value.players };
    case "requeued":
      return { kind: "requeued", reason: event.value.reason };
    case "assigned":
      return { kind: "assigned", assignment: event.value };
    case "ended":
      return { kind: "ended", state: event.value.state };
    default:
      return undefined;
  }
}

/** A silence aborts our own stream, hence CANCELLED. */
function mayRetry(error: unknown): boolean {
  return error instanceof RallypointError && (error.transient || error.code === Code.CANCELLED);
}
