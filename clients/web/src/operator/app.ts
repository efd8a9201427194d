// The walk through the page: the secret ▸ all rooms ▸ one room.
import { Code, RallypointError } from "../rpc/error";
import { element, refill, say } from "../page/element";
import { OperatorApi, keepSecret, secret, takeSecretFromAddress } from "./api";
import { RoomPanel } from "./room";
import { ReplayTable } from "./replays";
import { RoomTable } from "./table";

const EVERY_MS = 1_000;
/** The list of replays costs more and changes less: it is asked for at every tenth look. */
const REPLAYS_EVERY = 10;

export class OperatorApp {
  readonly #root: HTMLElement;
  readonly #api = new OperatorApi();
  readonly #news = element("p", { class: "news", role: "status" });
  readonly #table: RoomTable;
  readonly #panel: RoomPanel;
  readonly #replays = new ReplayTable();
  #timer: ReturnType<typeof setInterval> | undefined;
  #asking = false;
  #looks = 0;

  constructor(root: HTMLElement) {
    this.#root = root;
    this.#panel = new RoomPanel(this.#api, (text) => say(this.#news, text));
    this.#table = new RoomTable((roomId) => {
      this.#panel.choose(roomId);
      void this.#refresh();
    });
  }

  start(): void {
    takeSecretFromAddress();
    if (secret()) this.#open();
    else this.#ask("");
  }

  #open(): void {
    refill(
      this.#root,
      element("header", {}, element("h1", {}, "Rallypoint ", element("small", {}, "operators")), this.#news, this.#away()),
      element("main", {}, this.#table.element, this.#panel.element, this.#replays.element),
    );
    this.#timer = setInterval(() => void this.#refresh(), EVERY_MS);
    void this.#refresh();
  }

  #away(): HTMLElement {
    const forget = (): void => {
      keepSecret("");
      this.#ask("");
    };
    return element("button", { class: "button", type: "button", click: forget }, "Forget the secret");
  }

  #ask(problem: string): void {
    clearInterval(this.#timer);
    const field = element("input", { id: "secret", type: "password", autocomplete: "off", required: true });
    const form = element(
      "form",
      {
        class: "panel secret",
        submit: (event) => {
          event.preventDefault();
          keepSecret(field.value.trim());
          this.#open();
        },
      },
      element("h1", {}, "For operators"),
      element("label", { for: "secret" }, "The admin secret"),
      field,
      element("p", { class: "news", role: "alert" }, problem),
      element("button", { class: "button primary", type: "submit" }, "Open"),
    );
    refill(this.#root, form);
    field.focus();
  }

  async #refresh(): Promise<void> {
    if (this.#asking || document.hidden) return;
    this.#asking = true;
    try {
      this.#table.show(await this.#api.list(), this.#panel.roomId);
      await this.#panel.refresh();
      if (this.#looks++ % REPLAYS_EVERY === 0) this.#replays.show(await this.#api.replays());
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#asking = false;
    }
  }

  #failed(error: unknown): void {
    if (error instanceof RallypointError && error.code === Code.UNAUTHENTICATED) {
      keepSecret("");
      return this.#ask("That secret is not this server's.");
    }
    const text = error instanceof RallypointError ? error.message || error.reason : String(error);
    return say(this.#news, `Not refreshed: ${text}`);
  }
}
