// Errors as a person reads them: what happened, and what to do.
import { Code, RallypointError } from "../rpc/error";

export interface Explanation {
  readonly title: string;
  readonly advice: string;
}

const BY_REASON: Readonly<Record<string, Explanation>> = {
  NETWORK: { title: "The server cannot be reached", advice: "Check your connection, then try again." },
  DEADLINE: { title: "The server did not answer in time", advice: "It may be busy. Try again in a moment." },
  CLIENT_OUTDATED: { title: "This page is out of date", advice: "Reload to get the new version." },
  QUEUE_UNKNOWN: { title: "This server does not offer that game", advice: "Go back and choose another one." },
  SEAT_REFUSED: { title: "Your seat is gone", advice: "You were away longer than the match could wait. Play a new one." },
  ROOM_UNKNOWN: { title: "The match has ended", advice: "It finished while you were away. Play a new one." },
  GRACE_EXPIRED: { title: "Your seat is gone", advice: "You were away longer than the match could wait. Play a new one." },
  NO_SHOW: { title: "You were late", advice: "The match began without you. Play a new one." },
  GAME_ERROR: { title: "The match broke off", advice: "The game had a fault, and nobody's rating changed. Play a new one." },
  SCHEMA_MISMATCH: { title: "This page is out of date", advice: "Reload to get the new version." },
  CODE_UNKNOWN: { title: "No room has this code", advice: "Check it with whoever made the room; it ends with the room." },
  REPLAY_UNKNOWN: { title: "There is no replay", advice: "The match was not recorded, or it is too long ago." },
  REPLAY_EARLY: { title: "This match is still played", advice: "Its replay shows more than a player may see. It can be watched once the match has ended." },
  REPLAY_REFUSED: { title: "This replay is not yours", advice: "Only those who played a match can watch it again." },
  REPLAYS_EXCEEDED: { title: "Many replays are watched just now", advice: "Try again in a moment." },
  SPECTATE_OFF: { title: "This room lets nobody watch", advice: "Ask whoever made it." },
  SPECTATORS_EXCEEDED: { title: "Too many watch already", advice: "Try again in a moment." },
  ADMIN_ONLY: { title: "This is for operators", advice: "Open the operators' page first, with the secret." },
  ROOM_FULL: { title: "The room is full", advice: "Ask them to make another one, or make your own." },
  ROOM_LOCKED: { title: "The room lets nobody in now", advice: "Try again when their round is over." },
  KICKED: { title: "You were thrown out of that room", advice: "Play in another one." },
  CODE_RATE: { title: "Too many codes that lead nowhere", advice: "Wait a minute, then type it again." },
  ROOM_RATE: { title: "You made many rooms just now", advice: "Wait a few seconds, then make the next one." },
  FLEET_FULL: { title: "No room is free on this server", advice: "Try again in a moment." },
  ABANDONED: { title: "The room is closed", advice: "Everybody had left. Make a new one." },
  TICK_BUDGET: { title: "The match broke off", advice: "The game took too long, and nobody's rating changed. Play a new one." },
  TICKET_EXISTS: { title: "You are already searching", advice: "Another tab of this browser is in the queue." },
};

const BY_CODE: Readonly<Partial<Record<Code, Explanation>>> = {
  [Code.UNAVAILABLE]: { title: "The server is not available", advice: "It may be restarting. Try again in a moment." },
  [Code.RESOURCE_EXHAUSTED]: { title: "Too many requests", advice: "Wait a few seconds, then try again." },
  [Code.UNAUTHENTICATED]: { title: "Your session has ended", advice: "Go back and press Play to start a new one." },
  [Code.NOT_FOUND]: { title: "That is no longer there", advice: "Go back and play a new match." },
};

export function explain(error: unknown): Explanation {
  if (!(error instanceof RallypointError)) {
    return { title: "Something went wrong on this page", advice: "Reload it. If it happens again, tell us what you did." };
  }
  const known = BY_REASON[error.reason] ?? BY_CODE[error.code];
  return known ?? { title: "That did not work", advice: `The server said: ${error.message || error.reason}. Try again in a moment.` };
}

export function explainReason(reason: string): Explanation {
  return BY_REASON[reason] ?? { title: "The match is over for you", advice: `The server said ${reason || "nothing more"}.` };
}
