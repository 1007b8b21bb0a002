/** What an app is made of is checked where it is made. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { AccessMethod, App, type UuidLike } from "../src/index.js";

const [USER, WORKSPACE, AGENT] = [1, 2, 3].map((n) => `0000000${n}-0000-0000-0000-00000000000${n}`) as [
  string,
  string,
  string,
];

test("ids may be text or bytes", () => {
  const app = new App(USER, WORKSPACE, AGENT, AccessMethod.PATH, "code");
  const bytes = Buffer.from(USER.replaceAll("-", ""), "hex");
  const capitals = new App("ABCDEF01-0000-0000-0000-000000000001", WORKSPACE, AGENT, AccessMethod.PATH, "code");
  assert.equal(new App(bytes, WORKSPACE.replaceAll("-", ""), new Uint8Array(bytes).fill(3), 1, "code").userId, USER);
  assert.equal(new App(bytes, WORKSPACE.replaceAll("-", ""), AGENT, AccessMethod.PATH, "code").key, app.key);
  assert.equal(capitals.userId, "abcdef01-0000-0000-0000-000000000001");
});

test("an id that is none is named", () => {
  const wrong: UuidLike[] = [
    "",
    "code",
    `${USER}0`,
    `{${USER}}`,
    "0".repeat(32),
    "é".repeat(32),
    Buffer.from("short"),
    new Uint8Array(16),
    new Uint8Array(17).fill(1),
  ];
  for (const value of wrong) {
    assert.throws(() => new App(value, WORKSPACE, AGENT, AccessMethod.PATH, "code"), {
      name: "RangeError",
      message: /^userId is /,
    });
    assert.throws(() => new App(USER, value, AGENT, AccessMethod.PATH, "code"), /^RangeError: workspaceId is /);
    assert.throws(() => new App(USER, WORKSPACE, value, AccessMethod.PATH, "code"), /^RangeError: agentId is /);
  }
});

test("a slug that the daemon would reject is an error", () => {
  for (const slug of ["", "x".repeat(257), "\u{1f600}".repeat(257), "a\0b", "\ud800"]) {
    assert.throws(() => new App(USER, WORKSPACE, AGENT, AccessMethod.SUBDOMAIN, slug), /^RangeError: slugOrPort is /);
  }
});

test("the longest slug and a terminal's empty one are fine", () => {
  const longest = "\u{1f600}".repeat(256);
  assert.equal(new App(USER, WORKSPACE, AGENT, AccessMethod.PATH, longest).slugOrPort, longest);
  assert.equal(new App(USER, WORKSPACE, AGENT, AccessMethod.TERMINAL, "").slugOrPort, "");
});

test("an access method that is none is an error", () => {
  for (const method of [0, 4, "PATH", undefined]) {
    assert.throws(
      () => new App(USER, WORKSPACE, AGENT, method as AccessMethod, "code"),
      /^RangeError: accessMethod is /,
    );
  }
});

test("apps that differ in one field are different", () => {
  const apps = [
    new App(USER, WORKSPACE, AGENT, AccessMethod.PATH, "code"),
    new App(WORKSPACE, WORKSPACE, AGENT, AccessMethod.PATH, "code"),
    new App(USER, USER, AGENT, AccessMethod.PATH, "code"),
    new App(USER, WORKSPACE, USER, AccessMethod.PATH, "code"),
    new App(USER, WORKSPACE, AGENT, AccessMethod.TERMINAL, "code"),
    new App(USER, WORKSPACE, AGENT, AccessMethod.PATH, "3000"),
  ];
  assert.equal(new Set(apps.map((app) => app.key)).size, 6);
});
