// The games of this page: how they are offered before anything is known of the server.
import type { GameViewFactory, ReplayViewFactory } from "./game_view";
import { skirmishReplay } from "./skirmish/replay_view";
import { skirmishView } from "./skirmish/view";
import { tictactoeReplay, tictactoeView } from "./tictactoe/view";

export interface Offer {
  /** The game's and, by default, its queue's name. */
  readonly game: string;
  readonly title: string;
  readonly pitch: string;
  readonly players: string;
  readonly art: string;
  readonly view: GameViewFactory;
  readonly replay: ReplayViewFactory;
}

export const OFFERS: readonly Offer[] = [
  {
    game: "skirmish",
    title: "Skirmish",
    pitch: "Move, aim, shoot. Most takedowns when the clock runs out wins.",
    players: "2–8 players · real time",
    view: skirmishView,
    replay: skirmishReplay,
    art: `<svg viewBox="0 0 120 72" aria-hidden="true"><g fill="none" stroke="currentColor" stroke-opacity=".28">
      <path d="M0 18h120M0 36h120M0 54h120M24 0v72M48 0v72M72 0v72M96 0v72"/></g>
      <path d="M38 41 84 26" stroke="#ffd166" stroke-width="2" stroke-linecap="round" stroke-dasharray="9 7"/>
      <g transform="translate(30 44) rotate(-18)"><circle r="10" fill="#ff6a3d"/><path d="M4-3h12v6H4z" fill="#ffd9cc"/></g>
      <g transform="translate(92 23) rotate(150)"><circle r="10" fill="#3dc8ff"/><path d="M4-3h12v6H4z" fill="#d3f2ff"/></g>
      <path d="M64 52l5 5-5 5-5-5z" fill="#9df27c"/></svg>`,
  },
  {
    game: "tictactoe",
    title: "Tic-tac-toe",
    pitch: "Three in a row. One minute a move, so think, but not for long.",
    players: "2 players · turn by turn",
    view: tictactoeView,
    replay: tictactoeReplay,
    art: `<svg viewBox="0 0 120 72" aria-hidden="true"><g stroke="currentColor" stroke-opacity=".4" stroke-width="2" stroke-linecap="round">
      <path d="M50 8v56M70 8v56M32 26h56M32 46h56"/></g>
      <g fill="none" stroke-width="3.4" stroke-linecap="round"><path d="M55 31l10 10m0-10L55 41M36 12l9 9m0-9l-9 9M75 51l9 9m0-9l-9 9" stroke="#ff6a3d"/>
      <circle cx="80" cy="17" r="5.6" stroke="#3dc8ff"/><circle cx="40" cy="56" r="5.6" stroke="#3dc8ff"/></g></svg>`,
  },
];

export function offerOf(game: string): Offer | undefined {
  return OFFERS.find((offer) => offer.game === game);
}
