// The walk through the page: home ▸ queue ▸ match ▸ result, and again. A reload goes on where it was.
import { Matchmaker } from "../match/find";
import { Rooms } from "../match/rooms";
import type { SearchEvent } from "../match/find";
import type { Assignment, Rating } from "../gen/rallypoint/v1/matchmaking_pb";
import { Channel } from "../rpc/channel";
import type { TransportName } from "../rpc/channel";
import { RallypointError } from "../rpc/error";
import { isRecorded } from "../room/recorded";
import { SeatStore } from "../room/seats";
import type { Seat } from "../room/seats";
import { randomId } from "../session/encoding";
import { SessionStore } from "../session/store";
import { OFFERS, offerOf } from "./catalog";
import type { Offer } from "./catalog";
import { refill } from "./element";
import { explain } from "./explain";
import { forgetInvitation, invitedTo } from "./invitation";
import { homeScreen } from "./screens/home";
import { BUILD, NAME_KEY, PROFILE_KEY } from "./profile";
import { MatchScreen } from "./screens/match";
import type { Outcome } from "./screens/match";
import { noticeScreen } from "./screens/notice";
import { QueueScreen } from "./screens/queue";
import { resultScreen } from "./screens/result";
import { RoomsScreen } from "./screens/rooms";

export type ScreenName = "home" | "queue" | "rooms" | "match" | "result" | "notice";

const GAME_KEY = "rallypoint.game";
const RATING_WITHIN_MS = 12_000;
/** What the rooms of this page are made with: time enough for friends to come. */
const ROOM_OPTIONS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = { skirmish: { time_limit_s: 600 } };

/** A game's queue has its name; `?queue=` in the address asks for another one of the server's. */
function queueOf(offer: Offer): string {
  return new URLSearchParams(location.search).get("queue") ?? offer.game;
}

/** `?transport=websocket` in the address: all calls of a match over one WebSocket. */
function transport(): TransportName {
  return new URLSearchParams(location.search).get("transport") === "websocket" ? "websocket" : "fetch";
}

export class App {
  readonly #root: HTMLElement;
  readonly #seats = new SeatStore(sessionStorage);
  #session: SessionStore;
  #matchmaker: Matchmaker;
  #match: MatchScreen | undefined;
  #cancelling = false;
  /** What is on the screen. */
  screen: ScreenName = "home";
  /** The rating after the last match, for tests. */
  lastRating: Rating | undefined;

  constructor(root: HTMLElement) {
    this.#root = root;
    this.#session = this.#sessionOf(sessionStorage.getItem(PROFILE_KEY) ?? "guest");
    this.#matchmaker = this.#matchmakerOf(this.#session);
  }

  /** The match being played, for tests. */
  get match(): MatchScreen | undefined {
    return this.#match;
  }

  get playerId(): string {
    return this.#session.current()?.playerId ?? "";
  }

  /** Go on where a reload interrupted, or begin. */
  async start(): Promise<void> {
    const offer = offerOf(sessionStorage.getItem(GAME_KEY) ?? "");
    const seat = this.#seats.load();
    if (seat && offer) return this.#play(offer, seat);
    if (this.#matchmaker.pending() && offer) return this.#search(offer);
    if (invitedTo()) return this.rooms(offer ?? OFFERS[0]);
    return this.home();
  }

  home(): void {
    this.#show("home", homeScreen({
      name: localStorage.getItem(NAME_KEY) ?? "",
      game: sessionStorage.getItem(GAME_KEY) ?? OFFERS[0]?.game ?? "",
      ratings: this.#session.current() ? (offer) => this.#matchmaker.rating(queueOf(offer)) : undefined,
      onPlay: (name, offer) => void this.play(name, offer),
      onRooms: (name, offer) => {
        localStorage.setItem(NAME_KEY, name);
        void this.rooms(offer);
      },
    }));
  }

  /** Make a room, or enter one. */
  async rooms(offer = OFFERS[0]): Promise<void> {
    const game = offer?.game ?? "";
    const opened = this.#session.open({ displayName: localStorage.getItem(NAME_KEY) ?? "", game, build: BUILD });
    const rooms = new Rooms(new Channel({ url: "", credentials: this.#session }));
    const take = async (ask: () => Promise<{ offer: Offer | undefined; seat: Seat }>): Promise<void> => {
      screen.busy(true);
      try {
        await opened;
        const found = await ask();
        if (!found.offer) return screen.failed({ title: "This page does not know that game", advice: "Choose another room" });
        sessionStorage.setItem(GAME_KEY, found.offer.game);
        screen.dispose();
        forgetInvitation();
        return await this.#play(found.offer, this.#seats.save(found.seat));
      } catch (error) {
        return screen.failed(explain(error));
      }
    };
    const screen = new RoomsScreen({
      game,
      code: invitedTo(),
      list: async () => {
        await opened;
        return rooms.open();
      },
      watchable: async () => {
        await opened;
        return rooms.watchable();
      },
      onBack: () => {
        screen.dispose();
        forgetInvitation();
        this.home();
      },
      onCreate: (chosen, listed) => void take(async () => {
        const host = (await opened).displayName;
        const made = await rooms.create({ game: chosen.game, listed, options: ROOM_OPTIONS[chosen.game] ?? {}, metadata: { host } });
        return { offer: chosen, seat: { roomId: made.roomId, tokens: [made.seatToken], nextRequestId: 1, code: made.code } };
      }),
      onCode: (code) => void take(async () => {
        const found = await rooms.join(code);
        return { offer: offerOf(found.game), seat: { roomId: found.roomId, tokens: [found.seatToken], nextRequestId: 1, code: code.toUpperCase() } };
      }),
    });
    this.#show("rooms", screen.element);
    opened.catch((error: unknown) => screen.failed(explain(error)));
  }

  async play(name: string, offer: Offer): Promise<void> {
    localStorage.setItem(NAME_KEY, name);
    sessionStorage.setItem(GAME_KEY, offer.game);
    await this.#search(offer);
  }

  async #search(offer: Offer): Promise<void> {
    const leaving = new AbortController();
    const screen = new QueueScreen(offer, () => void this.#cancel(leaving));
    this.#show("queue", screen.element);
    try {
      await this.#session.open({ displayName: localStorage.getItem(NAME_KEY) ?? "", game: offer.game, build: BUILD });
      for await (const event of this.#matchmaker.find(queueOf(offer), leaving.signal)) {
        screen.take(event);
        const seat = this.#seatOf(event);
        if (seat) {
          await screen.shown();
          return void (await this.#play(offer, seat));
        }
        if (event.kind === "ended") return this.#cancelling ? undefined : this.#ended(offer);
      }
    } catch (error) {
      if (!leaving.signal.aborted) this.#searchFailed(offer, error);
    } finally {
      screen.dispose();
    }
  }

  #seatOf(event: SearchEvent): Seat | undefined {
    if (event.kind !== "assigned") return undefined;
    const assignment: Assignment = event.assignment;
    return this.#seats.save({ roomId: assignment.roomId, tokens: [assignment.seatToken], nextRequestId: 1 });
  }

  async #cancel(leaving: AbortController): Promise<void> {
    this.#cancelling = true;
    try {
      // Too late to leave: the seat is on its way, so stay and take it.
      if (!(await this.#matchmaker.cancel())) return;
    } catch {
      // The ticket ends by itself; the player need not wait for that.
    } finally {
      this.#cancelling = false;
    }
    leaving.abort();
    this.home();
  }

  #ended(offer: Offer): void {
    this.#show("notice", noticeScreen({
      title: "Nobody was found in time",
      advice: "Searching again often helps; a bot or a friend always does.",
      actions: [["Search again", () => void this.#search(offer)], ["Back", () => this.home()]],
    }));
  }

  #searchFailed(offer: Offer, error: unknown): void {
    const elsewhere = error instanceof RallypointError && error.reason === "TICKET_EXISTS";
    const ticketId = elsewhere ? (error.metadata["ticket_id"] ?? "") : "";
    const here = (): void => {
      this.#matchmaker.adopt(queueOf(offer), ticketId);
      void this.#search(offer);
    };
    const again = (): void => void this.#search(offer);
    this.#show("notice", noticeScreen({
      ...explain(error),
      actions: elsewhere
        ? [["Play as another guest", () => this.#another(offer)], ...(ticketId ? [["Search here instead", here] as const] : []), ["Back", () => this.home()]]
        : [["Try again", again], ["Back", () => this.home()]],
    }));
  }

  /** A second player in the same browser: a device secret that only this tab uses. */
  #another(offer: Offer): void {
    const profile = `tab-${randomId().slice(0, 8)}`;
    sessionStorage.setItem(PROFILE_KEY, profile);
    this.#session = this.#sessionOf(profile);
    this.#matchmaker = this.#matchmakerOf(this.#session);
    void this.#search(offer);
  }

  async #play(offer: Offer, seat: Seat): Promise<void> {
    const match = new MatchScreen({
      offer,
      seat,
      seats: this.#seats,
      channel: { url: "", credentials: this.#session, transport: transport() },
      onOver: (outcome) => void this.#over(offer, seat, outcome),
    });
    this.#match = match;
    this.#show("match", match.element);
    await match.run();
  }

  async #over(offer: Offer, seat: Seat, outcome: Outcome): Promise<void> {
    this.#match?.dispose();
    this.#match = undefined;
    if (outcome.ending.how === "replaced") return this.#replaced(offer, seat);
    const screen = resultScreen({
      offer,
      outcome,
      playerId: this.playerId,
      roomId: seat.roomId,
      again: seat.code === undefined ? "Play again" : "Another room",
      onAgain: () => void (seat.code === undefined ? this.#search(offer) : this.rooms(offer)),
      onHome: () => this.home(),
    });
    this.#show("result", screen.element);
    if (outcome.ending.how === "closed") void this.#offerReplay(seat.roomId, screen.replayable);
    if (outcome.ending.result?.rated === false || seat.code !== undefined) return screen.unrated();
    try {
      const rating = await this.#matchmaker.ratingAfter(queueOf(offer), seat.roomId, RATING_WITHIN_MS);
      this.lastRating = rating;
      if (rating) screen.rated(rating);
      else screen.late();
    } catch {
      screen.late();
    }
  }

  /** Offer the replay if the match was recorded; nothing else depends on it. */
  async #offerReplay(roomId: string, offer: () => void): Promise<void> {
    const channel = new Channel({ url: "", credentials: this.#session });
    if (await isRecorded(channel, roomId)) offer();
  }

  #replaced(offer: Offer, seat: Seat): void {
    this.#show("notice", noticeScreen({
      title: "You are playing in another tab",
      advice: "A seat has one player at a time. Take it back to go on here.",
      actions: [["Play here", () => void this.#play(offer, this.#seats.load() ?? seat)], ["Back", () => this.home()]],
    }));
  }

  #show(name: ScreenName, content: Element): void {
    this.screen = name;
    document.body.dataset["screen"] = name;
    refill(this.#root, content);
    scrollTo(0, 0);
    const heading = content.querySelector<HTMLElement>("[data-focus]");
    heading?.focus({ preventScroll: true });
  }

  #sessionOf(profile: string): SessionStore {
    // A tab's own guest lives and ends with the tab.
    const storage = profile === "guest" ? localStorage : sessionStorage;
    return new SessionStore({ url: "", storage, profile });
  }

  #matchmakerOf(session: SessionStore): Matchmaker {
    return new Matchmaker({ channel: new Channel({ url: "", credentials: session, transport: transport() }), storage: sessionStorage });
  }
}
