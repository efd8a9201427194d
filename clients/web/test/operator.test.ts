import assert from "node:assert/strict";
import { test } from "node:test";
import { secretIn } from "../src/operator/api";

test("the secret of a link is taken encoded or as it stands", () => {
  assert.equal(secretIn(""), "");
  assert.equal(secretIn("#"), "");
  assert.equal(secretIn("#an%20operator%27s"), "an operator's");
  assert.equal(secretIn("#100%sure"), "100%sure");
  assert.equal(secretIn("#%E0%A4%A"), "%E0%A4%A");
});
