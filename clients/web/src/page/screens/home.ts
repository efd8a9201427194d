// Home: a name, a game, Play.
import type { Rating } from "../../gen/rallypoint/v1/matchmaking_pb";
import { OFFERS } from "../catalog";
import type { Offer } from "../catalog";
import { drawing, element, say } from "../element";

export interface HomeOptions {
  readonly name: string;
  readonly game: string;
  /** Reads one's own rating, when there is a session to ask with. */
  readonly ratings: ((offer: Offer) => Promise<Rating | undefined>) | undefined;
  readonly onPlay: (name: string, offer: Offer) => void;
  readonly onRooms: (name: string, offer: Offer) => void;
}

const LONGEST_NAME = 24;

const FLAG = `<svg class="flag" viewBox="0 0 32 32" aria-hidden="true">
  <path d="M9 29V4" stroke="currentColor" stroke-width="2.4" stroke-linecap="round"/>
  <path class="cloth" d="M10.2 5H27l-5 6 5 6H10.2z" fill="var(--signal)"/></svg>`;

export function wordmark(): HTMLElement {
  return element("span", { class: "wordmark" }, drawing(FLAG), element("span", {}, "Rallypoint"));
}

export function homeScreen(options: HomeOptions): HTMLElement {
  const name = element("input", {
    id: "name",
    name: "name",
    type: "text",
    maxlength: LONGEST_NAME,
    autocomplete: "nickname",
    spellcheck: "false",
    enterkeyhint: "go",
    placeholder: "Leave empty for a surprise",
    value: options.name,
    // A touch keyboard would cover the page before it was seen.
    "data-focus": matchMedia("(pointer: fine)").matches,
  });
  const form: HTMLFormElement = element(
    "form",
    { class: "panel start", submit: (event) => submitted(event, form, options) },
    element("label", { for: "name" }, "Your name"),
    name,
    element("fieldset", { class: "offers" }, element("legend", {}, "Your game"), ...OFFERS.map((offer) => card(offer, options))),
    element("button", { class: "button primary large", type: "submit" }, "Play"),
    element("button", { class: "button friends", type: "button", click: () => chosen(form, options.onRooms) }, "Play with friends"),
  );
  return element(
    "main",
    { class: "screen home" },
    element(
      "header",
      { class: "hero" },
      wordmark(),
      element("h1", { tabindex: -1 }, "Meet. ", "Match. ", element("em", {}, "Play.")),
      element("p", { class: "lead" }, "Pick a name and you are in the queue. No account, no download: your seat waits for you, even through a reload."),
    ),
    form,
  );
}

function card(offer: Offer, options: HomeOptions): HTMLElement {
  const rating = element("span", { class: "rating" });
  options.ratings?.(offer).then(
    (known) => known && known.matches > 0 && say(rating, `Your rating ${known.display}`),
    () => undefined,
  );
  return element(
    "label",
    { class: "offer" },
    element("input", { type: "radio", name: "game", value: offer.game, checked: offer.game === options.game }),
    element("span", { class: "art" }, drawing(offer.art)),
    element("strong", {}, offer.title),
    element("span", { class: "pitch" }, offer.pitch),
    element("span", { class: "facts" }, offer.players, rating),
  );
}

function submitted(event: Event, form: HTMLFormElement, options: HomeOptions): void {
  event.preventDefault();
  chosen(form, options.onPlay);
}

function chosen(form: HTMLFormElement, go: (name: string, offer: Offer) => void): void {
  const data = new FormData(form);
  const offer = OFFERS.find((known) => known.game === data.get("game")) ?? OFFERS[0];
  if (offer) go(String(data.get("name") ?? "").trim(), offer);
}
