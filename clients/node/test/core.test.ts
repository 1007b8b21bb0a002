/** The core against the protocol page, rule by rule, with a clock that the test moves. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { AccessMethod, App, type Event, type Limits } from "../src/index.js";
import { Core } from "../src/core.js";
import { completeLimits } from "../src/limits.js";
import { Report } from "../src/report.js";
import { RejectionReason, StreamReportsRequest, type RejectedReport } from "../src/wire/appstats/v1/appstats.js";
import { appText, ModelDaemon, rows, type Held } from "./model_daemon.js";
import { SECOND, uuid } from "./support.js";

const START = 1_700_000_000n * SECOND;
const APP = new App(uuid(1), uuid(2), uuid(3), AccessMethod.PATH, "code");

/** A core, a model daemon and one stream between them; nothing moves but by the test. */
class Wire {
  now = 5n * SECOND;
  made = 0;
  readonly drawn: [number, number][] = [];
  readonly daemon = new ModelDaemon();
  readonly core: Core;
  clientId = "";
  private readonly told: Event[] = [];

  constructor(limits: Partial<Limits> = {}) {
    const newClientId = () => `client-${(this.made += 1)}`;
    this.core = new Core(completeLimits(limits), newClientId, (least, most) => {
      this.drawn.push([least, most]);
      return most;
    });
  }

  begin(number: number, app = APP): Report {
    const report = new Report(app, uuid(number), START + this.now, this.now, 1);
    this.core.buffer.begin(report, this.now);
    return report;
  }

  beginMany(first: number, count: number): Report[] {
    return Array.from({ length: count }, (_, i) => this.begin(first + i));
  }

  change(report: Report): void {
    report.count(1);
    this.core.buffer.changed(report, this.now);
  }

  end(...reports: Report[]): void {
    for (const report of reports) {
      report.end(this.now);
      this.core.buffer.ended(report, this.now);
    }
  }

  /** Sessions that are reported only when they end. */
  endUnheard(first: number, count: number): void {
    this.end(
      ...Array.from({ length: count }, (_, i) => new Report(APP, uuid(first + i), START + this.now, this.now, 1)),
    );
  }

  /** Opens a stream and answers its first message. */
  open(): StreamReportsRequest {
    const first = StreamReportsRequest.decode(this.core.opened(this.now));
    assert.equal(this.core.nextMessage(this.now), null, "something was sent before the answer");
    this.clientId = first.clientId;
    this.ack(this.daemon.first(first));
    return first;
  }

  ack(sequence: number | bigint, ...rejected: RejectedReport[]): boolean {
    return this.core.answered({ ackedSequence: BigInt(sequence), rejected }, this.now);
  }

  /** The next message, which the daemon does not get. */
  maybeSent(): StreamReportsRequest | null {
    const message = this.core.nextMessage(this.now);
    return message && StreamReportsRequest.decode(message);
  }

  /** The same, where there has to be one. */
  sent(): StreamReportsRequest {
    const message = this.maybeSent();
    assert.ok(message, "nothing was sent");
    return message;
  }

  assertSilent(): void {
    assert.equal(this.core.nextMessage(this.now), null);
  }

  /** All that may be sent now is applied but not acknowledged. Returns how many batches. */
  deliver(): number {
    let count = 0;
    for (let message = this.maybeSent(); message; message = this.maybeSent()) {
      this.daemon.batch(this.clientId, message);
      count += 1;
    }
    return count;
  }

  /** Sends, applies and acknowledges until nothing is left to send. */
  settle(): void {
    for (let message = this.maybeSent(); message; message = this.maybeSent()) {
      if (message.closing) {
        this.daemon.close(this.clientId, message);
        this.core.ended("OK", "", null, this.now);
        return;
      }
      this.ack(this.daemon.batch(this.clientId, message));
    }
  }

  /** Ends the stream; returns how many milliseconds the next attempt is away. */
  lose(status = "UNAVAILABLE", delayMs: number | null = null): number {
    this.core.ended(status, "because", delayMs, this.now);
    return Number(this.core.connectAtNs - this.now) / 1e6;
  }

  linger(): void {
    this.now += SECOND;
  }

  events<T extends Event["type"]>(type: T): Extract<Event, { type: T }>[] {
    this.told.push(...this.core.takeEvents());
    return this.told.filter((event): event is Extract<Event, { type: T }> => event.type === type);
  }

  held(report: Report): Held {
    const held = this.daemon.ever.get(report.sessionId.replaceAll("-", ""));
    assert.ok(held);
    return held;
  }
}

function ids(message: StreamReportsRequest): number[] {
  assert.ok(message.columns);
  return rows(message.columns).map(([sessionId]) => parseInt(sessionId, 16));
}

function rejection(sequence: number, index: number, reason: RejectionReason, message = ""): RejectedReport {
  return { sequence: BigInt(sequence), index, reason, message };
}

// --- batches ---

test("the first message names the client and nothing else goes out before its answer", () => {
  const wire = new Wire();
  wire.beginMany(1, 1000);
  const first = wire.open();
  assert.deepEqual([first.clientId, first.sequence, first.closing], ["client-1", 0n, false]);
  assert.equal(ids(wire.sent()).length, 1000);
});

test("a session that begins and ends within the linger is one report", () => {
  const wire = new Wire();
  wire.open();
  const report = wire.begin(1);
  wire.now += SECOND / 2n;
  report.count(2);
  wire.core.buffer.changed(report, wire.now);
  wire.end(report);
  wire.assertSilent();
  wire.linger();
  const message = wire.sent();
  const { startedNs } = report;
  const app = appText(uuid(1), uuid(2), uuid(3), 1, "code");
  assert.deepEqual(rows(message.columns!), [
    [uuid(1).replaceAll("-", ""), { app, startedNs, endedNs: startedNs + SECOND / 2n, requests: 3 }],
  ]);
});

test("a report waits for the linger and the shell is told until when", () => {
  const wire = new Wire();
  wire.open();
  assert.equal(wire.core.lookAgainAtNs(), null);
  wire.begin(1);
  wire.now += SECOND - 1n;
  wire.assertSilent();
  assert.equal(wire.core.lookAgainAtNs(), wire.now + 1n);
  wire.now += 1n;
  assert.deepEqual(ids(wire.sent()), [1]);
});

test("a full batch does not wait and what is left over does", () => {
  const wire = new Wire();
  wire.open();
  wire.beginMany(1, 1001);
  assert.equal(ids(wire.sent()).length, 1000);
  wire.assertSilent();
  wire.linger();
  assert.deepEqual(ids(wire.sent()), [1001]);
});

test("a batch ends before it has too many bytes", () => {
  const wire = new Wire({ batchMaxBytes: 4000 });
  wire.open();
  for (let n = 1; n < 9; n += 1)
    wire.begin(n, new App(uuid(1), uuid(2), uuid(n), AccessMethod.PATH, "\u{1f600}".repeat(256)));
  wire.linger();
  const messages = [wire.sent(), wire.sent(), wire.sent()];
  assert.deepEqual(
    messages.map((message) => ids(message).length),
    [3, 3, 2],
  );
  assert.ok(messages.every((message) => StreamReportsRequest.encode(message).finish().length <= 4000));
});

test("the longest slugs in the largest batch stay under the limit of bytes", () => {
  const wire = new Wire({ batchMaxReports: 10_000, batchMaxBytes: 4 << 20 });
  wire.open();
  for (let n = 1; n <= 10_000; n += 1)
    wire.begin(n, new App(uuid(1), uuid(2), uuid(n), AccessMethod.PATH, "\u{1f600}".repeat(256)));
  wire.linger();
  const message = wire.core.nextMessage(wire.now);
  assert.ok(message);
  assert.ok(message.length > (4 << 20) * 0.98 && message.length <= 4 << 20, `${message.length} bytes`);
});

test("each distinct app stands in a batch once", () => {
  const wire = new Wire();
  wire.open();
  const other = new App(uuid(1), uuid(2), uuid(3), AccessMethod.TERMINAL, "");
  const same = new App(uuid(1), uuid(2), uuid(3), AccessMethod.PATH, "code");
  [APP, other, same, other].forEach((app, i) => wire.begin(i + 1, app));
  wire.linger();
  const { columns } = wire.sent();
  assert.deepEqual(columns!.app, [0, 1, 0, 1]);
  assert.deepEqual(
    columns!.apps.map((app) => app.slugOrPort),
    ["code", ""],
  );
});

test("at most eight batches are on their way while reports go on merging", () => {
  const wire = new Wire();
  wire.open();
  const reports = wire.beginMany(1, 10_000);
  assert.equal(wire.deliver(), 8);
  assert.equal(wire.core.lookAgainAtNs(), null);
  wire.end(...reports);
  wire.ack(1);
  assert.equal(wire.deliver(), 1);
  wire.ack(9);
  wire.linger();
  wire.settle();
  assert.ok(reports.every((report) => wire.held(report).endedNs === report.endedNs));
  assert.equal(wire.core.stats().unacknowledgedReports, 0);
});

// --- reconnects ---

test("what was not acknowledged is sent again under its number with its content", () => {
  const wire = new Wire({ batchMaxReports: 2 });
  wire.open();
  const reports = wire.beginMany(1, 4);
  const before = [wire.sent(), wire.sent()];
  wire.end(...reports);
  wire.lose();
  wire.open();
  assert.deepEqual([wire.sent(), wire.sent()], before);
});

test("what the first answer acknowledges is not sent again", () => {
  const wire = new Wire({ batchMaxReports: 2 });
  wire.open();
  wire.endUnheard(1, 4);
  assert.equal(wire.deliver(), 2);
  wire.lose();
  wire.daemon.clients.get("client-1")!.last = 1n;
  wire.open();
  const message = wire.sent();
  assert.deepEqual([message.sequence, ids(message)], [2n, [3, 4]]);
});

test("an acknowledgement of the old stream that comes on the new one counts", () => {
  const wire = new Wire({ batchMaxReports: 2 });
  wire.open();
  wire.endUnheard(1, 6);
  for (let i = 0; i < 3; i += 1) wire.sent();
  wire.lose();
  wire.open();
  assert.equal(wire.sent().sequence, 1n);
  wire.ack(2);
  assert.equal(wire.sent().sequence, 3n);
  wire.ack(3);
  assert.equal(wire.core.stats().unacknowledgedReports, 0);
});

test("live sessions are reported again under new numbers after what was not acknowledged", () => {
  const wire = new Wire();
  wire.open();
  wire.beginMany(1, 3);
  wire.linger();
  wire.settle();
  wire.endUnheard(4, 2);
  wire.linger();
  assert.deepEqual(ids(wire.sent()), [4, 5]);
  wire.lose();
  wire.daemon.forget();
  wire.open();
  const messages = [wire.sent(), wire.sent()];
  assert.deepEqual(
    messages.map((message) => [message.sequence, ids(message)]),
    [
      [2n, [4, 5]],
      [3n, [1, 2, 3]],
    ],
  );
  wire.assertSilent();
});

test("a session that ended while the daemon was away is not reported live again", () => {
  const wire = new Wire();
  wire.open();
  const report = wire.begin(1);
  wire.linger();
  wire.settle();
  wire.lose();
  wire.end(report);
  wire.open();
  wire.linger();
  wire.settle();
  assert.equal(wire.held(report).endedNs, report.endedNs);
  assert.deepEqual(wire.daemon.applied, ["client-1 1", "client-1 2"]);
});

test("a rejected session is told and not reported live again but its end is", () => {
  const wire = new Wire();
  wire.open();
  const report = wire.begin(7);
  wire.linger();
  assert.deepEqual(ids(wire.sent()), [7]);
  wire.ack(1, rejection(1, 0, RejectionReason.REJECTION_REASON_INVALID_TIME, "too old"));
  const rejections = [{ sessionId: uuid(7), reason: "REJECTION_REASON_INVALID_TIME", message: "too old" }];
  assert.deepEqual(wire.events("Rejected"), [{ type: "Rejected", rejections }]);
  wire.change(report);
  wire.lose();
  wire.open();
  wire.linger();
  wire.assertSilent();
  wire.end(report);
  wire.linger();
  assert.deepEqual(ids(wire.sent()), [7]);
  assert.equal(wire.core.stats().rejectedReports, 1);
});

test("rejections that name no report of ours and unknown reasons do no harm", () => {
  const wire = new Wire();
  wire.open();
  wire.begin(7);
  wire.linger();
  wire.sent();
  const conflict = RejectionReason.REJECTION_REASON_CONFLICT;
  wire.ack(1, rejection(9, 0, conflict), rejection(1, 5, conflict), rejection(1, 0, 99 as RejectionReason));
  assert.deepEqual(
    wire.events("Rejected").map((event) => event.rejections),
    [[{ sessionId: uuid(7), reason: "99", message: "" }]],
  );
});

// --- refusals ---

for (const status of ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"]) {
  test(`after ${status} batches go singly under a new client_id until one is acknowledged`, () => {
    const wire = new Wire({ batchMaxReports: 2 });
    wire.open();
    wire.endUnheard(1, 8);
    for (let i = 0; i < 4; i += 1) wire.sent();
    wire.ack(1);
    wire.lose(status);
    assert.equal(wire.open().clientId, "client-2");
    const message = wire.sent();
    assert.deepEqual([message.sequence, ids(message)], [1n, [3, 4]]);
    wire.assertSilent();
    wire.begin(9);
    assert.equal(wire.core.lookAgainAtNs(), null, "the shell would spin until the acknowledgement");
    wire.ack(wire.daemon.batch("client-2", message));
    assert.deepEqual(
      [ids(wire.sent()), ids(wire.sent())],
      [
        [5, 6],
        [7, 8],
      ],
    );
    assert.equal(wire.core.stats().droppedReports, 0);
    assert.deepEqual(
      wire.events("ClientIdReplaced").map((event) => event.newId),
      ["client-2"],
    );
  });
}

test("only a batch refused as number 1 is dropped, counted and told", () => {
  const wire = new Wire({ batchMaxReports: 2 });
  wire.open();
  wire.endUnheard(1, 6);
  for (let i = 0; i < 3; i += 1) wire.sent();
  wire.ack(1);
  wire.lose("INVALID_ARGUMENT"); // number 2 was the first on its way: nothing is dropped
  assert.equal(wire.core.stats().droppedReports, 0);
  wire.open();
  assert.deepEqual(ids(wire.sent()), [3, 4]);
  wire.lose("INVALID_ARGUMENT"); // number 1, alone
  assert.equal(wire.core.stats().droppedReports, 2);
  const refused = { type: "BatchRefused", status: "INVALID_ARGUMENT", details: "because", reports: 2, dropped: 2 };
  assert.deepEqual(wire.events("BatchRefused"), [refused]);
  assert.deepEqual(wire.events("Dropped"), []);
  const first = wire.open();
  assert.deepEqual([first.clientId, first.droppedReports], ["client-3", 2n]);
  const message = wire.sent();
  assert.deepEqual([message.sequence, ids(message), message.droppedReports], [1n, [5, 6], 2n]);
});

test("a refusal while several were on their way drops none though number 1 is among them", () => {
  const wire = new Wire({ batchMaxReports: 2 });
  wire.open();
  wire.endUnheard(1, 4);
  wire.sent();
  wire.sent();
  wire.lose("INVALID_ARGUMENT");
  wire.open();
  wire.settle();
  assert.equal(wire.daemon.ever.size, 4);
  assert.equal(wire.core.stats().droppedReports, 0);
});

test("a refusal before any batch was sent drops none", () => {
  const wire = new Wire({ batchMaxReports: 2 });
  wire.endUnheard(1, 2);
  wire.open();
  wire.lose("INVALID_ARGUMENT");
  wire.open();
  wire.settle();
  assert.equal(wire.daemon.ever.size, 2);
});

test("sessions that the daemon may believe in use survive the refusal of their batch, each alone", () => {
  const wire = new Wire();
  wire.open();
  const [live, ending] = [wire.begin(1), wire.begin(2)];
  wire.linger();
  wire.settle();
  wire.change(live);
  wire.end(ending);
  wire.endUnheard(3, 2);
  wire.lose("ALREADY_EXISTS"); // so that the next number is 1
  wire.open();
  wire.linger();
  assert.deepEqual(ids(wire.sent()).sort(), [1, 2, 3, 4]);
  wire.change(live);
  wire.lose("INVALID_ARGUMENT");
  assert.equal(wire.core.stats().droppedReports, 2);
  wire.open();
  const messages: StreamReportsRequest[] = [];
  for (let message = wire.maybeSent(); message; message = wire.maybeSent()) {
    messages.push(message);
    wire.ack(wire.daemon.batch(wire.clientId, message));
  }
  assert.deepEqual(messages.map(ids).sort(), [[1], [2]]);
  assert.equal(wire.held(ending).endedNs, ending.endedNs);
  assert.equal(wire.held(live).requests, 3);
  wire.end(live);
  const other = wire.begin(5);
  wire.linger();
  assert.deepEqual(ids(wire.sent()).sort(), [1, 5], "alone until acknowledged, and no longer");
  assert.ok(other.tracked);
});

test("a report that is refused alone is held back and tried again with the newest of its session", () => {
  const wire = new Wire();
  wire.open();
  const [poison, good] = [wire.begin(1), wire.begin(2)];
  wire.linger();
  let refused = 0;
  for (let message = wire.maybeSent(); message && refused < 6; message = wire.maybeSent()) {
    if (ids(message).includes(1)) {
      refused += 1;
      wire.lose("INVALID_ARGUMENT");
      wire.open();
    } else {
      wire.ack(wire.daemon.batch(wire.clientId, message));
    }
  }
  assert.equal(wire.held(good).requests, 1);
  assert.equal(wire.core.stats().pendingReports, 1);
  assert.equal(refused, 2); // with its neighbor, and alone as number 1
  wire.end(poison);
  const atNs = wire.core.lookAgainAtNs();
  assert.ok(atNs);
  wire.now = atNs;
  wire.assertSilent(); // it lingers
  wire.linger();
  wire.settle();
  assert.equal(wire.held(poison).endedNs, poison.endedNs);
  assert.deepEqual([wire.core.stats().droppedReports, wire.core.stats().pendingReports], [0, 0]);
});

test("a report that is held back is not reported again by a reconnect", () => {
  const wire = new Wire();
  wire.open();
  wire.begin(1);
  wire.linger();
  assert.deepEqual(ids(wire.sent()), [1]);
  wire.lose("INVALID_ARGUMENT");
  wire.open();
  wire.assertSilent();
  wire.lose();
  wire.open();
  wire.assertSilent();
});

// --- mistaken identity ---

for (const status of ["ALREADY_EXISTS", "ABORTED"]) {
  test(`after ${status} the client_id is replaced and batches are sent again from 1`, () => {
    const wire = new Wire({ batchMaxReports: 2 });
    wire.open();
    wire.endUnheard(1, 6);
    for (let i = 0; i < 3; i += 1) wire.sent();
    wire.ack(1);
    wire.lose(status);
    assert.equal(wire.open().clientId, "client-2");
    const messages = [wire.sent(), wire.sent()];
    assert.deepEqual(
      messages.map((message) => [message.sequence, ids(message)]),
      [
        [1n, [3, 4]],
        [2n, [5, 6]],
      ],
    );
    const told = { type: "ClientIdReplaced", oldId: "client-1", newId: "client-2", status, details: "because" };
    assert.deepEqual(wire.events("ClientIdReplaced"), [told]);
  });
}

test("an acknowledgement of what was never sent means that the client_id is in use twice", () => {
  const wire = new Wire();
  wire.open();
  wire.endUnheard(1, 1);
  wire.linger();
  wire.sent();
  assert.equal(wire.ack(2), false);
  wire.lose("CANCELLED");
  assert.equal(wire.open().clientId, "client-2");
  assert.deepEqual(ids(wire.sent()), [1]);
});

test("what was sent under the old client_id vouches for nothing under the new one", () => {
  const wire = new Wire({ batchMaxReports: 1 });
  wire.open();
  wire.endUnheard(1, 3);
  wire.settle();
  wire.lose("ABORTED");
  wire.open();
  wire.endUnheard(4, 1);
  assert.deepEqual(ids(wire.sent()), [4]);
  assert.equal(wire.ack(2), false);
  wire.lose("CANCELLED");
  wire.core.opened(wire.now);
  assert.equal(wire.ack(1), false, "it has a number, but was not sent under it");
});

test("live sessions move to the new client_id", () => {
  const wire = new Wire();
  wire.open();
  wire.begin(1);
  wire.linger();
  wire.settle();
  wire.lose("ABORTED");
  wire.open();
  wire.settle();
  assert.deepEqual(wire.daemon.applied, ["client-1 1", "client-2 1"]);
});

// --- when the next attempt is made ---

test("attempts back off at random up to eight seconds", () => {
  const wire = new Wire();
  const waits = Array.from({ length: 8 }, () => {
    wire.core.opened(wire.now);
    return wire.lose();
  });
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
  assert.deepEqual(
    wire.drawn,
    waits.map((wait) => [0, wait]),
  );
  assert.deepEqual(
    wire.events("Disconnected").map((event) => event.attempt),
    [1, 2, 3, 4, 5, 6, 7, 8],
  );
});

test("a year's outage does not overflow the backoff", () => {
  const wire = new Wire();
  for (let i = 0; i < 2000; i += 1) {
    wire.core.opened(wire.now);
    assert.ok(wire.lose() <= 8000);
  }
});

test("the backoff starts anew when a batch is acknowledged", () => {
  const wire = new Wire();
  for (let i = 0; i < 5; i += 1) {
    wire.core.opened(wire.now);
    wire.lose();
  }
  wire.open();
  assert.equal(wire.lose(), 8000, "an answer alone is no success");
  wire.open();
  wire.endUnheard(1, 1);
  wire.linger();
  wire.settle();
  assert.equal(wire.lose(), 250);
});

test("the backoff starts anew after a stream that lasted", () => {
  const wire = new Wire();
  for (let i = 0; i < 5; i += 1) {
    wire.core.opened(wire.now);
    wire.lose();
  }
  wire.open();
  wire.now += 8n * SECOND;
  assert.equal(wire.lose(), 250);
});

test("the daemon's own delay replaces the backoff up to the slowest pace", () => {
  const wire = new Wire();
  wire.open();
  assert.equal(wire.lose("UNAVAILABLE", 2000), 2500);
  assert.deepEqual(wire.drawn, [[1, 1.25]]);
  wire.open();
  assert.equal(wire.lose("UNAVAILABLE", 3_600_000), 10_000);
});

for (const status of ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"]) {
  test(`after ${status} the next attempt is made at the slowest pace and nothing is lost`, () => {
    const wire = new Wire();
    wire.open();
    wire.endUnheard(1, 1);
    wire.linger();
    wire.sent();
    assert.equal(wire.lose(status), 10_000);
    assert.equal(wire.open().clientId, "client-1");
    const message = wire.sent();
    assert.deepEqual([message.sequence, ids(message)], [1n, [1]]);
  });
}

for (const status of ["OK", "UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"]) {
  test(`${status} keeps client_id and numbers`, () => {
    const wire = new Wire();
    wire.open();
    wire.endUnheard(1, 1);
    wire.linger();
    wire.sent();
    wire.lose(status);
    assert.equal(wire.open().clientId, "client-1");
    const message = wire.sent();
    assert.deepEqual([message.sequence, ids(message)], [1n, [1]]);
  });
}

// --- bounds ---

test("a full buffer drops the new report, counts it and says so to the daemon", () => {
  const wire = new Wire({ maxPendingReports: 3 });
  wire.endUnheard(1, 5);
  assert.equal(wire.open().droppedReports, 2n);
  wire.linger();
  const message = wire.sent();
  assert.deepEqual([ids(message), message.droppedReports], [[1, 2, 3], 2n]);
  assert.deepEqual(wire.events("Dropped"), [{ type: "Dropped", reports: 2, total: 2 }]);
  assert.deepEqual(wire.core.takeEvents(), []);
});

test("the end of a session once reported live finds room in a full buffer", () => {
  const wire = new Wire({ maxPendingReports: 2, maxLiveSessions: 3 });
  wire.open();
  const reports = wire.beginMany(1, 3);
  wire.linger();
  wire.settle();
  wire.lose();
  wire.endUnheard(4, 10);
  wire.end(...reports);
  wire.open();
  wire.linger();
  wire.settle();
  assert.ok(reports.every((report) => wire.held(report).endedNs === report.endedNs));
  assert.equal(wire.core.stats().droppedReports, 8);
});

test("a live session too many is reported when it ends", () => {
  const wire = new Wire({ maxLiveSessions: 2 });
  wire.open();
  const reports = wire.beginMany(1, 3);
  wire.linger();
  assert.deepEqual(ids(wire.sent()), [1, 2]);
  assert.equal(wire.core.stats().droppedReports, 1);
  wire.end(reports[2]!);
  wire.linger();
  assert.deepEqual(ids(wire.sent()), [3]);
  assert.equal(wire.core.stats().droppedReports, 1);
});

test("an unacknowledged end still takes its place among the live ones", () => {
  const wire = new Wire({ maxLiveSessions: 1 });
  wire.open();
  const report = wire.begin(1);
  wire.linger();
  wire.settle();
  wire.end(report);
  assert.ok(!wire.begin(2).tracked);
  wire.linger();
  wire.settle();
  assert.ok(wire.begin(3).tracked);
});

test("sessions that come and go in an outage need no more than the bounds", () => {
  const wire = new Wire({ maxPendingReports: 10, maxLiveSessions: 5 });
  wire.open();
  const live = wire.beginMany(1, 5);
  wire.linger();
  wire.settle();
  wire.lose();
  wire.end(...live);
  for (let n = 6; n < 1000; n += 1) wire.end(wire.begin(n));
  assert.equal(wire.core.stats().pendingReports, 15);
});

test("without a connection, live sessions that ended are ordinary reports", () => {
  const wire = new Wire({ maxPendingReports: 1 });
  wire.end(...wire.beginMany(1, 2));
  const { pendingReports, droppedReports, liveSessions } = wire.core.stats();
  assert.deepEqual([pendingReports, droppedReports, liveSessions], [1, 1, 0]);
});

// --- closing ---

test("closing ends what is left and follows the last acknowledgement", () => {
  const wire = new Wire();
  wire.open();
  const report = wire.begin(1);
  wire.linger();
  wire.settle();
  wire.core.close(wire.now);
  const last = wire.sent();
  assert.ok(!last.closing);
  wire.assertSilent(); // closing must not go out before the last batch is acknowledged
  wire.ack(wire.daemon.batch("client-1", last));
  const closing = wire.sent();
  assert.deepEqual([closing.closing, closing.sequence, closing.columns], [true, 0n, undefined]);
  wire.assertSilent();
  wire.core.ended("OK", "", null, wire.now);
  assert.ok(wire.core.done && wire.core.confirmed);
  assert.ok(report.endedNs > 0n);
  assert.equal(wire.held(report).endedNs, report.endedNs);
  assert.deepEqual(wire.events("Closed"), [{ type: "Closed", confirmed: true, left: 0 }]);
});

test("closing is sent again when there was no OK", () => {
  const wire = new Wire();
  wire.open();
  wire.endUnheard(1, 1);
  wire.core.close(wire.now);
  wire.ack(wire.daemon.batch("client-1", wire.sent()));
  assert.ok(wire.sent().closing);
  wire.lose();
  assert.ok(!wire.core.done);
  wire.open();
  assert.ok(wire.sent().closing);
  wire.core.ended("OK", "", null, wire.now);
  assert.ok(wire.core.confirmed);
});

test("an OK without closing closes nothing", () => {
  const wire = new Wire();
  wire.open();
  wire.endUnheard(1, 1);
  wire.linger();
  wire.settle();
  wire.core.close(wire.now);
  wire.lose("OK");
  assert.ok(!wire.core.done);
  wire.open();
  wire.settle();
  assert.ok(wire.core.confirmed);
});

test("closing makes the next attempt at once", () => {
  const wire = new Wire();
  wire.endUnheard(1, 1);
  for (let i = 0; i < 8; i += 1) {
    wire.core.opened(wire.now);
    wire.lose();
  }
  wire.core.close(wire.now);
  assert.equal(wire.core.connectAtNs, wire.now);
  wire.core.opened(wire.now);
  assert.equal(wire.lose(), 250);
});

test("a client that has sent nothing has nothing to close", () => {
  const wire = new Wire();
  wire.core.close(wire.now);
  assert.ok(wire.core.done && wire.core.confirmed);
});

test("nothing is taken after closing and what is lost is counted", () => {
  const wire = new Wire();
  wire.open();
  wire.endUnheard(1, 1);
  wire.core.close(wire.now);
  const late = wire.begin(2);
  assert.equal(wire.core.stats().droppedReports, 0);
  wire.end(late);
  assert.equal(wire.core.stats().droppedReports, 1);
  wire.settle();
  assert.deepEqual([...wire.daemon.ever.keys()], [uuid(1).replaceAll("-", "")]);
  assert.equal(wire.daemon.dropped.get("client-1"), 1n);
});

test("what is left at the deadline is counted as dropped", () => {
  const wire = new Wire({ batchMaxReports: 2 });
  wire.open();
  wire.endUnheard(1, 3);
  wire.sent();
  wire.core.close(wire.now);
  wire.core.abandon();
  assert.ok(wire.core.done && !wire.core.confirmed);
  assert.equal(wire.core.stats().droppedReports, 3);
  assert.deepEqual(wire.events("Closed"), [{ type: "Closed", confirmed: false, left: 3 }]);
  assert.deepEqual(wire.events("Dropped"), []);
});

test("what is refused alone is tried once more when the client closes and then given up", () => {
  const wire = new Wire();
  wire.open();
  wire.begin(1);
  wire.linger();
  wire.sent();
  wire.lose("INVALID_ARGUMENT");
  wire.open();
  wire.assertSilent();
  wire.core.close(wire.now);
  assert.deepEqual(ids(wire.sent()), [1]);
  wire.lose("INVALID_ARGUMENT");
  wire.open();
  assert.ok(wire.sent().closing);
  wire.core.ended("OK", "", null, wire.now);
  assert.ok(wire.core.confirmed);
  assert.equal(wire.core.stats().droppedReports, 1);
});

test("a count stays where the database has no more room", () => {
  const report = new Report(APP, uuid(1), START, 0n, 2 ** 31 - 2);
  report.count(5);
  assert.equal(report.requests, 2 ** 31 - 1);
});
