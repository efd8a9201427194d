// Making elements: `element("p", { class: "hint" }, "text")`.

type Properties = Readonly<Record<string, string | number | boolean | ((event: Event) => void) | undefined>>;
type Child = Node | string | undefined | false;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  set(made, properties);
  fill(made, children);
  return made;
}

/** A piece of trusted, constant SVG. Never give it anything a player has written. */
export function drawing(markup: string): SVGElement {
  const holder = document.createElement("template");
  holder.innerHTML = markup.trim();
  return holder.content.firstElementChild as SVGElement;
}

/** Replace what is inside. */
export function refill(parent: Element, ...children: readonly Child[]): void {
  parent.replaceChildren();
  fill(parent, children);
}

/** Change a text only when it differs, so that a screen reader is not told twice. */
export function say(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

function set(made: Element, properties: Properties): void {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
}

function fill(parent: Element, children: readonly Child[]): void {
  for (const child of children) if (child !== undefined && child !== false) parent.append(child);
}
