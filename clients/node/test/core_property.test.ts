/**
 * Whatever the transport does, every session's newest state reaches the daemon, by the wire's rules, within the bounds.
 *
 * A model daemon and a network stand opposite a core with tight limits. Messages and acknowledgements wait on the
 * network and are lost with their stream, which may end at any moment with any status. The model daemon fails the test
 * at a gap, a changed content or a broken batch. At the end everything is mended, and what the daemon knows is compared
 * with the sessions.
 */

import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { AccessMethod, App } from "../src/index.js";
import { Core } from "../src/core.js";
import { completeLimits } from "../src/limits.js";
import { Report } from "../src/report.js";
import { StreamReportsRequest } from "../src/wire/appstats/v1/appstats.js";
import { ModelDaemon, rows } from "./model_daemon.js";
import { SECOND, uuid } from "./support.js";

const START = 1_700_000_000n * SECOND;
const LIMITS = completeLimits({ batchMaxReports: 3, windowBatches: 2, maxLiveSessions: 4, maxPendingReports: 5 });
const APPS = ["code", "jupyter"].map((slug) => new App(uuid(1), uuid(2), uuid(3), AccessMethod.PATH, slug));
const STATUSES = [
  "OK",
  "UNAVAILABLE",
  "INVALID_ARGUMENT",
  "RESOURCE_EXHAUSTED",
  "ALREADY_EXISTS",
  "ABORTED",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "INTERNAL",
  "CANCELLED",
];
const HISTORIES = 400;
const STEPS = 120;

/** Numbers from 0 to less than 1, the same for the same seed (mulberry32). */
function seeded(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Sessions that come and go, a stream that moves message by message, and everything that can happen to it. */
class Network {
  private now = SECOND;
  private ids = 0;
  private draw = 0.5;
  private readonly daemon = new ModelDaemon();
  private readonly poison = new Set<string>();
  private readonly reports: Report[] = [];
  private readonly core: Core;
  private isOpen = false;
  private up: Uint8Array[] = [];
  private down: bigint[] = [];
  private clientId = "";

  constructor(private readonly random: () => number) {
    const newClientId = () => `client-${(this.ids += 1)}`;
    this.core = new Core(LIMITS, newClientId, (least, most) => least + this.draw * (most - least));
  }

  step(): void {
    const deeds: [number, () => void][] = [
      [4, () => this.begin()],
      [2, () => this.onSome((report) => (report.count(1), this.core.buffer.changed(report, this.now)))],
      [3, () => this.onSome((report) => (report.end(this.now), this.core.buffer.ended(report, this.now)))],
      [3, () => this.wait()],
      [1, () => this.reports.length > 0 && this.poison.add(hex(this.pick(this.reports)))],
      [1, () => this.poison.clear()],
      [4, () => !this.isOpen && this.now >= this.core.connectAtNs && this.open()],
      [6, () => this.isOpen && this.send()],
      [6, () => this.arrive()],
      [6, () => this.answer()],
      [1, () => this.isOpen && this.lose(this.pick(STATUSES))],
      [0.3, () => this.restartWithoutMemory()],
    ];
    let drawn = this.random() * deeds.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, deed] of deeds) {
      drawn -= weight;
      if (drawn < 0) {
        deed();
        break;
      }
    }
    const stats = this.core.stats();
    assert.ok(stats.liveSessions <= LIMITS.maxLiveSessions);
    assert.ok(stats.pendingReports <= LIMITS.maxLiveSessions + LIMITS.maxPendingReports);
    assert.ok(stats.unacknowledgedReports <= LIMITS.windowBatches * LIMITS.batchMaxReports);
  }

  /** Everything is mended: what the daemon knows is what the sessions are. */
  finish(): void {
    this.poison.clear();
    if (this.isOpen) this.lose("UNAVAILABLE");
    this.pump();
    const stats = this.core.stats();
    assert.deepEqual([stats.pendingReports, stats.unacknowledgedReports], [0, 0]);
    let missing = 0;
    for (const report of this.reports) {
      const held = this.daemon.ever.get(hex(report));
      if (report.tracked) {
        assert.equal(this.daemon.sessions.get(hex(report))?.requests, report.requests);
        assert.equal(report.endedNs, 0n);
      } else if (report.saidLive || (held && report.endedNs)) {
        assert.deepEqual([held?.endedNs, held?.requests], [report.endedNs, report.requests]);
      } else if (report.endedNs) {
        missing += 1;
      }
    }
    assert.ok(missing <= stats.droppedReports);
    this.core.close(this.now);
    this.pump();
    assert.ok(this.core.confirmed);
    for (const report of this.reports.filter((report) => report.saidLive)) {
      const held = this.daemon.ever.get(hex(report));
      assert.deepEqual([held?.endedNs, held?.requests], [report.endedNs, report.requests]);
    }
  }

  private pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.random() * values.length)]!;
  }

  private onSome(deed: (report: Report) => void): void {
    const report = this.pick(this.reports);
    if (report && report.endedNs === 0n) deed(report);
  }

  private begin(): void {
    const report = new Report(this.pick(APPS), uuid(this.reports.length + 1), START + this.now, this.now, 1);
    this.reports.push(report);
    if (this.random() < 0.6) this.core.buffer.begin(report, this.now);
  }

  private wait(): void {
    this.now += this.pick([SECOND / 3n, SECOND, 10n * SECOND, 60n * SECOND]);
    this.draw = this.random();
  }

  private open(): void {
    this.up = [this.core.opened(this.now)];
    this.down = [];
    this.clientId = "";
    this.isOpen = true;
  }

  private send(): boolean {
    const message = this.core.nextMessage(this.now);
    if (message) {
      this.up.push(message);
      return true;
    }
    const atNs = this.core.lookAgainAtNs();
    assert.ok(atNs === null || atNs > this.now, "the shell would spin");
    return false;
  }

  private arrive(): void {
    const bytes = this.isOpen && this.up.shift();
    if (!bytes) return;
    const message = StreamReportsRequest.decode(bytes);
    if (!this.clientId) {
      this.clientId = message.clientId;
      this.down.push(this.daemon.first(message));
    } else if (message.closing) {
      this.daemon.close(this.clientId, message);
      this.lose("OK");
    } else if (rows(message.columns!).some(([sessionId]) => this.poison.has(sessionId))) {
      this.lose("INVALID_ARGUMENT");
    } else {
      this.down.push(this.daemon.batch(this.clientId, message));
    }
  }

  private answer(): void {
    const ackedSequence = this.isOpen ? this.down.shift() : undefined;
    if (ackedSequence !== undefined) assert.ok(this.core.answered({ ackedSequence, rejected: [] }, this.now));
  }

  private lose(status: string): void {
    this.isOpen = false;
    this.core.ended(status, "", null, this.now);
  }

  private restartWithoutMemory(): void {
    if (this.isOpen) this.lose(this.pick(["UNAVAILABLE", "INTERNAL"]));
    this.daemon.forget();
  }

  /** Everything works; moves all that can move. */
  private pump(): void {
    for (let turn = 0; turn < 400; turn += 1) {
      if (!this.isOpen) {
        if (this.core.connectAtNs > this.now) this.now = this.core.connectAtNs;
        this.open();
      }
      const moved = this.send() || this.up.length > 0 || this.down.length > 0;
      while (this.isOpen && this.up.length > 0) this.arrive();
      while (this.isOpen && this.down.length > 0) this.answer();
      if (this.core.done) return;
      if (!moved && this.isOpen) {
        const atNs = this.core.lookAgainAtNs();
        if (atNs === null) return;
        if (atNs > this.now) this.now = atNs;
      }
    }
    assert.fail("it never comes to rest");
  }
}

function hex(report: Report): string {
  return report.sessionId.replaceAll("-", "");
}

test("whatever the transport does, every session's newest state reaches the daemon", () => {
  const first = randomInt(2 ** 31);
  for (let seed = first; seed < first + HISTORIES; seed += 1) {
    const network = new Network(seeded(seed));
    try {
      for (let step = 0; step < STEPS; step += 1) network.step();
      network.finish();
    } catch (error) {
      throw new Error(`with the seed ${seed}: ${error}`, { cause: error });
    }
  }
});
