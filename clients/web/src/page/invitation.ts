// A room's code on the screen, and the link that takes others to it.
import { element, say } from "./element";

const COPIED_MS = 1_800;

/** `?room=ABC234` in the address is an invitation. */
export function invitedTo(): string {
  return new URLSearchParams(location.search).get("room") ?? "";
}

/** The invitation was taken, or declined: a reload must not bring it back. */
export function forgetInvitation(): void {
  if (invitedTo()) history.replaceState(null, "", location.pathname);
}

export function invitation(code: string): HTMLElement {
  const hint = element("span", { class: "copy", role: "status" }, "Copy link");
  const copy = async (): Promise<void> => {
    const link = new URL(location.href);
    link.search = `?room=${code}`;
    try {
      await navigator.clipboard.writeText(link.href);
      say(hint, "Link copied");
    } catch {
      say(hint, "Tell them the code");
    }
    setTimeout(() => say(hint, "Copy link"), COPIED_MS);
  };
  const spaced = `${code.slice(0, 3)} ${code.slice(3)}`;
  return element(
    "button",
    { class: "button quiet invitation", type: "button", "aria-label": `Room code ${[...code].join(" ")}. Copy the link`, click: () => void copy() },
    element("b", { "data-code": code }, spaced),
    hint,
  );
}
