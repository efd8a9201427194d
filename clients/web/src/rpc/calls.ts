// Calls within WebSocket messages (docs/wire.md §8): one byte names the call, gRPC-Web frames follow.
import { FrameReader, broken, frameOf } from "./framing";
import type { Part } from "./framing";

export const SOCKET_PATH = "/rallypoint.v1.websocket";
export const SUBPROTOCOL = "rallypoint.v1";
const HEAD_FLAG = 0x80;
const CALL = 1;
const FRAME_HEAD = 5;

export interface HeadFields {
  readonly path: string;
  readonly token?: string | undefined;
  readonly deadlineMs?: number | undefined;
  /** A lane: only failures are answered, and the head stays for messages without one. */
  readonly lane?: boolean;
}

/** The frame that says what is called, by whom, and until when. */
export function headOf(fields: HeadFields): Uint8Array {
  const lines = [`path: ${fields.path}`];
  if (fields.token !== undefined) lines.push(`authorization: Bearer ${fields.token}`);
  if (fields.deadlineMs !== undefined) lines.push(`grpc-timeout: ${Math.ceil(fields.deadlineMs)}m`);
  if (fields.lane) lines.push("answer: failures");
  const frame = frameOf(new TextEncoder().encode([...lines, ""].join("\r\n")));
  frame[0] = HEAD_FLAG;
  return frame;
}

/** A client's message; without a head it calls once more on a lane. */
export function callOf(number: number, head: Uint8Array | undefined, message: Uint8Array): Uint8Array<ArrayBuffer> {
  const body = frameOf(message);
  const size = head?.length ?? 0;
  const whole = new Uint8Array(CALL + size + body.length);
  whole[0] = number;
  if (head) whole.set(head, CALL);
  whole.set(body, CALL + size);
  return whole;
}

/** The message that cancels a call. */
export function cancelOf(number: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(number);
}

/** A server's message: whose it is, and its frames. */
export function answerOf(data: Uint8Array): { readonly number: number; readonly parts: readonly Part[] } {
  const number = data[0];
  if (number === undefined) throw broken("an empty message");
  // Nearly always one frame that fills it.
  if (data[CALL] === 0 && data.length >= CALL + FRAME_HEAD) {
    const size = new DataView(data.buffer, data.byteOffset + CALL + 1, 4).getUint32(0);
    const start = CALL + FRAME_HEAD;
    if (data.length === start + size) return { number, parts: [{ kind: "message", data: data.subarray(start) }] };
  }
  const frames = new FrameReader();
  const parts = frames.push(data.subarray(CALL));
  frames.finish();
  return { number, parts };
}
