// A full-page word: what happened and what to do about it.
import { element } from "../element";

export interface Notice {
  readonly title: string;
  readonly advice: string;
  /** The first is the one most want. */
  readonly actions: readonly (readonly [label: string, act: () => void])[];
}

export function noticeScreen(notice: Notice): HTMLElement {
  const buttons = notice.actions.map(([label, act], at) =>
    element("button", { class: at === 0 ? "button primary" : "button", type: "button", click: act }, label),
  );
  return element(
    "main",
    { class: "screen notice" },
    element(
      "section",
      { class: "panel", role: "alert" },
      element("h1", { tabindex: -1, "data-focus": true }, notice.title),
      element("p", { class: "lead" }, notice.advice),
      element("div", { class: "actions" }, ...buttons),
    ),
  );
}
