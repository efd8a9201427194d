import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameReader, frameOf } from "../src/rpc/framing";
import { Code, RallypointError, errorOf } from "../src/rpc/error";

const trailer = new TextEncoder().encode("grpc-status: 0\r\ngrpc-message: all%20well");
const end = new Uint8Array([0x80, 0, 0, 0, trailer.length, ...trailer]);
const messages = [new Uint8Array(0), new Uint8Array([1]), new Uint8Array(300).fill(7), new Uint8Array([2, 3])];
const body = Uint8Array.from([...messages.flatMap((message) => [...frameOf(message)]), ...end]);

function read(chunks: Uint8Array[]) {
  const reader = new FrameReader();
  const parts = chunks.flatMap((chunk) => reader.push(chunk));
  reader.finish();
  return parts;
}

const whole = read([body]);

test("a body gives its messages and its trailers", () => {
  assert.deepEqual(whole.flatMap((part) => (part.kind === "message" ? [part.data] : [])), messages);
  const last = whole.at(-1);
  assert.equal(last?.kind === "trailers" && last.trailers.get("grpc-message"), "all%20well");
});

test("any two cuts give the same parts", () => {
  for (let first = 0; first <= body.length; first += 3) {
    for (let second = first; second <= body.length; second += 7) {
      const chunks = [body.subarray(0, first), body.subarray(first, second), body.subarray(second)];
      assert.deepEqual(read(chunks), whole);
    }
  }
});

test("single bytes give the same parts", () => {
  assert.deepEqual(read(Array.from(body, (byte) => Uint8Array.of(byte))), whole);
});

test("a body that ends inside a frame is an error", () => {
  const reader = new FrameReader();
  reader.push(body.subarray(0, 9));
  assert.throws(() => reader.finish(), RallypointError);
});

test("bytes after the trailers are an error", () => {
  assert.throws(() => read([body, Uint8Array.of(0)]), RallypointError);
  assert.throws(() => read([Uint8Array.from([...body, 0])]), RallypointError);
});

test("a frame larger than any message is refused before it is held", () => {
  assert.throws(() => new FrameReader().push(Uint8Array.of(0, 0xff, 0xff, 0xff, 0xff)), RallypointError);
});

test("a compressed frame is refused", () => {
  assert.throws(() => new FrameReader().push(Uint8Array.of(1, 0, 0, 0, 0)), RallypointError);
});

test("a status in the trailers becomes a typed error", () => {
  assert.equal(errorOf(new Map([["grpc-status", "0"]])), undefined);
  const error = errorOf(new Map([["grpc-status", "8"], ["grpc-message", "too%20fast"]]));
  assert.equal(error?.code, Code.RESOURCE_EXHAUSTED);
  assert.equal(error?.message, "too fast");
  assert.equal(error?.transient, true);
});

test("trailers without a status are an unknown error", () => {
  assert.equal(errorOf(new Map())?.code, Code.UNKNOWN);
});
