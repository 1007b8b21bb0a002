/** What a proxy calls, against the buffer behind it; no stream is opened. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { AccessMethod, App, Client, type BeginOptions, type Limits } from "../src/index.js";
import { completeLimits } from "../src/limits.js";
import { SessionReporter } from "../src/session.js";
import { SECOND, uuid } from "./support.js";

const WALL = 1_700_000_000n * SECOND;
const APP = new App(uuid(1), uuid(2), uuid(3), AccessMethod.PATH, "code");

/** A client whose shell does nothing, with clocks that the test moves. */
class Quiet extends SessionReporter {
  time = { wall: WALL, monotonic: 7n * SECOND };
  wakes = 0;
  starts = 0;

  constructor() {
    super({ onEvent: () => {}, clock: { wallNs: () => this.time.wall, monotonicNs: () => this.time.monotonic } });
  }

  pass(seconds: bigint): void {
    this.time.wall += seconds * SECOND;
    this.time.monotonic += seconds * SECOND;
  }

  protected override start(): void {
    this.starts += 1;
  }

  protected override wake(): void {
    this.wakes += 1;
  }
}

test("a session begins now with an id of its own and one request", () => {
  const client = new Quiet();
  const [one, other] = [client.begin(APP), client.begin(APP)];
  assert.deepEqual([one.startedNs, one.endedNs, one.requests, one.app], [WALL, 0n, 1, APP]);
  assert.notEqual(one.sessionId, other.sessionId);
  assert.equal(client.stats().liveSessions, 2);
});

test("session ids are random UUIDs", () => {
  const client = new Quiet();
  const ids = new Set(Array.from({ length: 1000 }, () => client.begin(APP).sessionId));
  assert.equal(ids.size, 1000);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("the end is the start plus what the monotonic clock says has passed", () => {
  const client = new Quiet();
  const session = client.begin(APP);
  client.pass(30n);
  client.time.wall -= 3600n * SECOND;
  session.end();
  assert.equal(session.endedNs, WALL + 30n * SECOND);
});

test("a session goes on that another process began", () => {
  const client = new Quiet();
  const session = client.begin(APP, { sessionId: uuid(9), startedNs: WALL - 100n * SECOND, requests: 5 });
  client.pass(1n);
  session.update(2);
  session.end();
  assert.deepEqual([session.sessionId, session.startedNs, session.requests], [uuid(9), WALL - 100n * SECOND, 7]);
  assert.equal(session.endedNs, WALL + SECOND);
});

test("a start that lies ahead does not end before it began", () => {
  const session = new Quiet().begin(APP, { startedNs: WALL + 100n * SECOND });
  session.end();
  assert.equal(session.endedNs, session.startedNs);
});

test("a second end and an update after it change nothing", () => {
  const client = new Quiet();
  const session = client.begin(APP);
  session.end();
  client.pass(5n);
  session.end();
  session.update();
  assert.deepEqual([session.endedNs, session.requests], [WALL, 1]);
});

test("a session that is not reported live is nothing until it ends", () => {
  const client = new Quiet();
  const session = client.begin(APP, { reportLive: false });
  session.update();
  assert.deepEqual([client.stats().pendingReports, client.stats().liveSessions], [0, 0]);
  session.end();
  assert.deepEqual([client.stats().pendingReports, session.requests], [1, 2]);
});

test("disposed of, a session ends", () => {
  const session = new Quiet().begin(APP);
  session[Symbol.dispose]();
  assert.equal(session.endedNs, WALL);
});

test("the sender is woken for the first report and for a full batch only", () => {
  const client = new Quiet();
  for (let i = 0; i < 999; i += 1) client.begin(APP);
  assert.equal(client.wakes, 1);
  client.begin(APP);
  assert.equal(client.wakes, 2);
  client.begin(APP);
  assert.equal(client.wakes, 2);
});

test("the client starts at the first session and once", () => {
  const client = new Quiet();
  assert.equal(client.starts, 0);
  client.begin(APP, { reportLive: false });
  client.begin(APP);
  assert.equal(client.starts, 1);
});

test("what cannot be is an error in the caller", () => {
  const client = new Quiet();
  const wrong: [string, BeginOptions][] = [
    ["requests", { requests: -1 }],
    ["requests", { requests: 1.5 }],
    ["requests", { requests: NaN }],
    ["startedNs", { startedNs: 0n }],
    ["startedNs", { startedNs: 1n << 63n }],
    ["sessionId", { sessionId: "short" }],
    ["sessionId", { sessionId: new Uint8Array(16) }],
  ];
  for (const [name, options] of wrong) {
    assert.throws(() => client.begin(APP, options), { name: "RangeError", message: new RegExp(`^${name} is `) });
  }
  const session = client.begin(APP);
  assert.throws(() => session.update(-1), /^RangeError: requests is -1/);
  assert.equal(client.stats().pendingReports, 1);
});

test("a target that is none is an error", () => {
  for (const target of ["", "unix:", "nowhere", "host:", ":1", "http://host:1", "host:port", "[::1]"]) {
    assert.throws(() => new Client(target), /^RangeError: target is /);
  }
  const pem = Buffer.from("");
  const tls = { ca: pem, certificate: pem, key: pem };
  assert.throws(() => new Client("unix:/run/appstatsd.sock", { tls }), /TLS is for HOST:PORT/);
});

test("a limit that cannot be is an error", () => {
  const wrong = [
    { batchMaxReports: 10_001 },
    { batchMaxReports: 0 },
    { batchMaxBytes: 1 << 23 },
    { lingerMs: -1 },
    { backoffMaxMs: NaN },
  ];
  for (const limits of wrong) {
    assert.throws(() => completeLimits(limits), {
      name: "RangeError",
      message: new RegExp(`^${Object.keys(limits)[0]} is `),
    });
  }
  assert.throws(() => completeLimits({ linger: 5 } as Partial<Limits>), /^RangeError: linger is no limit/);
  assert.equal(completeLimits({ lingerMs: 0 }).lingerMs, 0);
});
