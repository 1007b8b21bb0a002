/**
 * What does the client say next, and when? Buffer and protocol of `docs/client-protocol.md`, without I/O.
 *
 * The shell tells the core what the transport did and asks what to send; time, random numbers and statuses are passed
 * in.
 *
 * Invariant: the batches in `unacked` are numbered without a gap, end at `nextNumber - 1`, and the first `sent` of them
 * were sent on the present stream. No batch is sent before the stream's first answer.
 */

import { Batch, message } from "./batch.js";
import { Buffer } from "./buffer.js";
import { nanoseconds } from "./clock.js";
import type { Event, Rejection } from "./events.js";
import type { Limits } from "./limits.js";
import { RejectionReason, type StreamReportsResponse } from "./wire/appstats/v1/appstats.js";

/** Something that was sent is at fault. */
const REFUSALS = new Set(["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"]);
/** The client_id is in use twice. */
const MISTAKEN_IDENTITY = new Set(["ALREADY_EXISTS", "ABORTED"]);
/** Nothing that the client could do would mend it. */
const FOR_A_PERSON = new Set(["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"]);

/** What a client holds and has done. */
export interface Stats {
  /** Empty before the first stream. */
  readonly clientId: string;
  readonly connected: boolean;
  readonly liveSessions: number;
  readonly pendingReports: number;
  readonly unacknowledgedReports: number;
  readonly acknowledgedReports: number;
  readonly rejectedReports: number;
  readonly droppedReports: number;
}

/** A client's state: what waits, what is on its way, and where the stream is. */
export class Core {
  readonly buffer: Buffer;
  /** When the next stream is to be opened, on the monotonic clock. */
  connectAtNs = 0n;
  /** Whether there is nothing more to do, ever. */
  done = false;
  /** Whether the daemon has confirmed everything after `close`. */
  confirmed = false;
  private readonly limits: Limits;
  private readonly newClientId: () => string;
  private readonly uniform: (least: number, most: number) => number;
  private clientId = "";
  private unacked: Batch[] = [];
  private nextNumber = 1;
  private lastSent = 0; // the highest number sent under this client_id
  private singly = false;
  private openedAtNs: bigint | null = null; // null: no stream
  private isAnswered = false;
  private sent = 0;
  private closingSent = false;
  private misused = ""; // why the client_id cannot be ours alone
  private attempts = 0;
  private failures = 0;
  private acknowledged = 0;
  private rejected = 0;
  private droppedTold = 0;
  private events: Event[] = [];

  constructor(limits: Limits, newClientId: () => string, uniform: (least: number, most: number) => number) {
    this.limits = limits;
    this.newClientId = newClientId;
    this.uniform = uniform;
    this.buffer = new Buffer(limits);
  }

  /** Ends what is left; what waits is due now, and so is the next attempt to connect. */
  close(nowNs: bigint): void {
    if (this.buffer.closed) return;
    this.buffer.close(nowNs);
    this.connectAtNs = nowNs;
    this.attempts = 0;
    if (this.lastSent === 0 && this.unacked.length === 0 && this.buffer.waiting === 0) this.finish(true);
  }

  /** Gives up: takes nothing any more, and what was not acknowledged is lost. */
  abandon(): void {
    if (this.done) return;
    this.buffer.closed = true;
    this.finish(false);
  }

  /** A stream is being opened. Returns its first message. */
  opened(nowNs: bigint): Uint8Array {
    this.clientId ||= this.newClientId();
    this.openedAtNs = nowNs;
    return message({ clientId: this.clientId, droppedReports: BigInt(this.buffer.dropped) });
  }

  /** The daemon has answered. False: it speaks of what was never sent, and the stream has to be cancelled. */
  answered(response: StreamReportsResponse, nowNs: bigint): boolean {
    if (response.ackedSequence > this.lastSent) {
      this.misused = `${response.ackedSequence} is acknowledged, and ${this.lastSent} was the last one sent`;
      return false;
    }
    this.reject(response);
    this.acknowledge(response.ackedSequence);
    if (!this.isAnswered) {
      this.isAnswered = true;
      this.failures = 0;
      this.events.push({ type: "Connected", clientId: this.clientId, ackedSequence: response.ackedSequence });
      this.buffer.reportLiveAgain(nowNs);
    }
    return true;
  }

  /** The message to send now; null: none yet (see `lookAgainAtNs`). */
  nextMessage(nowNs: bigint): Uint8Array | null {
    if (!this.isAnswered || this.closingSent || (this.singly && this.sent > 0)) return null;
    if (this.sent === this.unacked.length) {
      if (!this.mayCut() || !this.buffer.isDue(nowNs)) return this.closing();
      this.unacked.push(new Batch(this.nextNumber, this.buffer.take()));
      this.nextNumber += 1;
    }
    const batch = this.unacked[this.sent]!;
    this.sent += 1;
    this.lastSent = Math.max(this.lastSent, batch.number);
    return batch.message(this.buffer.dropped);
  }

  /** When `nextMessage` may have something though nothing else happened; null: not before something does. */
  lookAgainAtNs(): bigint | null {
    return this.isAnswered && this.mayCut() ? this.buffer.dueAtNs() : null;
  }

  /** The stream has ended, or could not be opened, with this gRPC status (by name). */
  ended(status: string, details: string, retryDelayMs: number | null, nowNs: bigint): void {
    if (this.done) return;
    if (this.closingSent && status === "OK") {
      this.finish(true);
      return;
    }
    if (this.misused) [status, details] = ["ALREADY_EXISTS", this.misused];
    if (REFUSALS.has(status)) {
      if (this.sent === 1 && this.unacked[0]!.number === 1) this.refuse(this.unacked.shift()!, status, details, nowNs);
      this.singly = true;
    }
    if (REFUSALS.has(status) || MISTAKEN_IDENTITY.has(status)) this.replaceClientId(status, details);
    if (
      this.isAnswered &&
      this.openedAtNs !== null &&
      nowNs - this.openedAtNs >= nanoseconds(this.limits.backoffMaxMs)
    ) {
      this.attempts = 0;
    }
    this.openedAtNs = null;
    this.isAnswered = this.closingSent = false;
    this.sent = 0;
    this.misused = "";
    const retryMs = this.waitMs(status, retryDelayMs);
    this.connectAtNs = nowNs + nanoseconds(retryMs);
    this.failures += 1;
    this.events.push({ type: "Disconnected", status, details, attempt: this.failures, retryMs });
  }

  /** What happened since the last call. */
  takeEvents(): Event[] {
    const taken = this.events;
    this.events = [];
    const reports = this.buffer.dropped - this.droppedTold;
    if (reports > 0) {
      this.droppedTold = this.buffer.dropped;
      taken.push({ type: "Dropped", reports, total: this.buffer.dropped });
    }
    return taken;
  }

  /** What the client holds and has done. */
  stats(): Stats {
    return {
      clientId: this.clientId,
      connected: this.isAnswered,
      liveSessions: this.buffer.live,
      pendingReports: this.buffer.waiting,
      unacknowledgedReports: this.unacknowledged(),
      acknowledgedReports: this.acknowledged,
      rejectedReports: this.rejected,
      droppedReports: this.buffer.dropped,
    };
  }

  private unacknowledged(): number {
    return this.unacked.reduce((sum, batch) => sum + batch.reports.length, 0);
  }

  private mayCut(): boolean {
    return this.unacked.length < (this.singly ? 1 : this.limits.windowBatches);
  }

  private closing(): Uint8Array | null {
    if (!this.buffer.closed || this.unacked.length > 0 || this.buffer.waiting > 0) return null;
    this.closingSent = true;
    return message({ closing: true, droppedReports: BigInt(this.buffer.dropped) });
  }

  private acknowledge(acked: bigint): void {
    while (this.unacked.length > 0 && this.unacked[0]!.number <= acked) {
      const batch = this.unacked.shift()!;
      this.sent = Math.max(0, this.sent - 1);
      this.acknowledged += batch.reports.length;
      this.buffer.accepted(batch.reports, batch.ends);
      this.singly = false;
      this.attempts = 0;
    }
  }

  private reject(response: StreamReportsResponse): void {
    const rejections: Rejection[] = [];
    for (const { sequence, index, reason, message } of response.rejected) {
      const report = this.unacked.find((batch) => BigInt(batch.number) === sequence)?.reports[index];
      if (report) {
        report.rejected = true;
        const name = RejectionReason[reason] ?? String(reason); // a newer daemon may have more reasons
        rejections.push({ sessionId: report.sessionId, reason: name, message });
      }
    }
    this.rejected += rejections.length;
    if (rejections.length > 0) this.events.push({ type: "Rejected", rejections });
  }

  private refuse(batch: Batch, status: string, details: string, nowNs: bigint): void {
    const dropped = this.buffer.refused(batch.reports, nowNs);
    this.droppedTold += dropped;
    this.events.push({ type: "BatchRefused", status, details, reports: batch.reports.length, dropped });
  }

  private replaceClientId(status: string, details: string): void {
    const oldId = this.clientId;
    this.clientId = this.newClientId();
    this.events.push({ type: "ClientIdReplaced", oldId, newId: this.clientId, status, details });
    this.lastSent = 0;
    this.unacked.forEach((batch, place) => (batch.number = place + 1));
    this.nextNumber = this.unacked.length + 1;
  }

  private waitMs(status: string, retryDelayMs: number | null): number {
    const slowest = this.limits.retrySlowestMs;
    if (FOR_A_PERSON.has(status)) return slowest;
    if (retryDelayMs !== null) return Math.min(retryDelayMs * this.uniform(1, 1.25), slowest);
    const most = Math.min(this.limits.backoffMaxMs, this.limits.backoffBaseMs * 2 ** this.attempts);
    this.attempts += 1;
    return this.uniform(0, most);
  }

  private finish(confirmed: boolean): void {
    const left = this.buffer.waiting + this.unacknowledged();
    this.buffer.dropped += left;
    this.droppedTold += left;
    this.isAnswered = false;
    this.done = true;
    this.confirmed = confirmed;
    this.events.push({ type: "Closed", confirmed, left });
  }
}
