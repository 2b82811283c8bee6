import assert from "node:assert/strict";
import { test } from "node:test";

import { filter, lifecycle, mask } from "./plugin.js";

const event = (email) => ({ name: "lead:updated", fields: [{ pointer: "/lead/email", json: JSON.stringify(email) }] });

test("a mask keeps the first letter and the domain", () => {
  assert.equal(mask("bob@miller.example"), "b***@miller.example");
  assert.equal(mask("öykü@miller.example"), "ö***@miller.example");
  assert.equal(mask("😀@miller.example"), "😀***@miller.example");
});

test("a text that is not an address is masked completely", () => {
  for (const text of ["", "bob", "@miller.example"]) {
    assert.equal(mask(text), "***");
  }
});

test("only the configured roles see the mask, and each role gets a verdict", () => {
  lifecycle.init('{"roles": ["SALES", "VIEWER"]}');
  const verdicts = filter.filter(event("bob@miller.example"), ["ADMIN", "VIEWER"]);
  const masking = { tag: "mask", val: { pointer: "/lead/email", text: "b***@miller.example" } };
  assert.deepEqual(verdicts, [
    { role: "ADMIN", audience: { tag: "everyone" }, edits: [] },
    { role: "VIEWER", audience: { tag: "everyone" }, edits: [masking] },
  ]);
  assert.deepEqual(filter.hides().map(({ role }) => role), ["SALES", "VIEWER"]);
});

test("a lead without an address needs no edit", () => {
  lifecycle.init("{}");
  assert.deepEqual(filter.filter(event(null), ["VIEWER"])[0].edits, []);
  assert.deepEqual(filter.filter({ name: "lead:deleted", fields: [] }, ["VIEWER"])[0].edits, []);
});

test("invalid settings are refused by name", () => {
  assert.throws(() => lifecycle.init('{"roles": ["VIEWR"]}'), (text) => text.startsWith('config.roles[0]: unknown role "VIEWR"'));
  assert.throws(() => lifecycle.init('{"roles": "VIEWER"}'), (text) => text.startsWith("config.roles: expected a list"));
  assert.throws(() => lifecycle.init('{"role": []}'), (text) => text.startsWith("config.role: unknown setting"));
});
