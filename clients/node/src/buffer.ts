/**
 * Which reports wait, and what may never be lost? The pending reports of a client, one for each session, and their
 * bounds.
 *
 * A report that waits is the session's own state, so it is always the newest. Reports wait in pools:
 *
 * - `kept`: reports of tracked sessions, those that the daemon may believe to be in use, or soon will. Never dropped.
 * - `ordinary`: ended sessions that the daemon has never heard of. Dropped, and counted, when there are too many.
 * - `alone`: tracked ones that were in a batch that the daemon refused. Each goes into a batch of its own.
 * - `held`: tracked ones that were refused alone. Tried again later.
 *
 * Invariant: a report is in one pool at most; `kept`, `alone` and `held` hold tracked sessions only, of which there are
 * at most `maxLiveSessions`; `ordinary` holds at most `maxPendingReports`. A session stops being tracked when its end
 * is acknowledged, or when it ends without ever having been put into a batch as live.
 */

import { nanoseconds } from "./clock.js";
import type { Limits } from "./limits.js";
import type { Report } from "./report.js";

/** At most how much a report adds to a batch, its app aside. */
const REPORT_BYTES = 42;

/** Pending reports. Methods that may make a batch due sooner return whether a waiting sender has to look again. */
export class Buffer {
  /** How many tracked sessions have no end. */
  live = 0;
  /** Reports lost so far. */
  dropped = 0;
  /** Whether nothing is taken any more, and all that waits is due. */
  closed = false;
  private readonly limits: Limits;
  private readonly lingerNs: bigint;
  private readonly refusedRetryNs: bigint;
  private readonly tracked = new Set<Report>();
  private readonly kept = new Set<Report>();
  private readonly ordinary = new Set<Report>();
  private readonly alone = new Set<Report>();
  private readonly held = new Map<Report, bigint>();
  private lingerEndsNs = 0n;

  constructor(limits: Limits) {
    this.limits = limits;
    this.lingerNs = nanoseconds(limits.lingerMs);
    this.refusedRetryNs = nanoseconds(limits.refusedRetryMs);
  }

  /** How many reports wait, those that are held back aside. */
  get pending(): number {
    return this.kept.size + this.ordinary.size + this.alone.size;
  }

  /** How many reports wait, all of them. */
  get waiting(): number {
    return this.pending + this.held.size;
  }

  /** Tracks a new session and makes its live report pending, if there is room. */
  begin(report: Report, nowNs: bigint): boolean {
    if (this.closed) return false;
    if (this.tracked.size >= this.limits.maxLiveSessions) {
      this.dropped += 1;
      return false;
    }
    report.tracked = true;
    this.tracked.add(report);
    this.live += 1;
    return this.put(this.kept, report, nowNs);
  }

  /** A live session has another count. */
  changed(report: Report, nowNs: bigint): boolean {
    return report.tracked && !report.rejected && this.keep(report, nowNs);
  }

  /** A session has its end. */
  ended(report: Report, nowNs: bigint): boolean {
    if (report.tracked) {
      this.live -= 1;
      if (report.saidLive) return this.keep(report, nowNs);
      this.forget(report);
      this.kept.delete(report);
    }
    if (this.closed || this.ordinary.size >= this.limits.maxPendingReports) {
      this.dropped += 1;
      return false;
    }
    return this.put(this.ordinary, report, nowNs);
  }

  /** Makes every tracked live session pending, due at once. */
  reportLiveAgain(nowNs: bigint): void {
    for (const report of this.tracked) {
      if (report.endedNs === 0n && !report.rejected) this.keep(report, nowNs);
    }
    this.lingerEndsNs = nowNs;
  }

  /** Ends every tracked live session. Takes nothing afterwards; what is held back is tried once more. */
  close(nowNs: bigint): void {
    for (const report of [...this.tracked]) {
      if (report.endedNs === 0n) {
        report.end(nowNs);
        this.ended(report, nowNs);
      }
    }
    this.closed = true;
    this.release(null, nowNs);
  }

  /** Whether a batch is to be cut. */
  isDue(nowNs: bigint): boolean {
    this.release(nowNs, nowNs);
    const pending = this.pending;
    if (this.closed || pending >= this.limits.batchMaxReports) return pending > 0;
    return pending > 0 && nowNs >= this.lingerEndsNs;
  }

  /** When `isDue` will change its answer if nothing else happens; null: not at all. */
  dueAtNs(): bigint | null {
    let first = this.pending > 0 ? this.lingerEndsNs : null;
    for (const atNs of this.held.values()) {
      if (first === null || atNs < first) first = atNs;
    }
    return first;
  }

  /** The reports of the next batch, which are then not pending any more. There has to be one. */
  take(): Report[] {
    for (const report of this.alone) {
      this.alone.delete(report);
      return this.sent([report]);
    }
    const taken: Report[] = [];
    const apps = new Set<string>();
    let room = this.limits.batchMaxBytes;
    for (const pool of [this.kept, this.ordinary]) {
      for (const report of pool) {
        room -= REPORT_BYTES;
        if (!apps.has(report.app.key)) {
          apps.add(report.app.key);
          room -= report.app.wireBytes;
        }
        if (taken.length > 0 && (room < 0 || taken.length === this.limits.batchMaxReports)) break;
        taken.push(report);
        pool.delete(report);
      }
    }
    return this.sent(taken);
  }

  /** The daemon has acknowledged a batch of these reports; `ends` are those that had their end in it. */
  accepted(reports: readonly Report[], ends: readonly Report[]): void {
    for (const report of ends) {
      if (report.tracked) this.forget(report);
    }
    const [first] = reports;
    if (first && reports.length === 1) first.alone = false;
  }

  /**
   * The daemon has refused a batch of these reports: those of tracked sessions are pending again, each alone.
   *
   * Returns how many reports are lost.
   */
  refused(reports: readonly Report[], nowNs: bigint): number {
    let lost = 0;
    for (const report of reports) {
      this.kept.delete(report);
      if (!report.tracked) {
        lost += 1;
        continue;
      }
      report.alone = true;
      if (reports.length > 1) {
        this.put(this.alone, report, nowNs);
        continue;
      }
      this.alone.delete(report);
      if (this.closed) {
        this.forget(report);
        lost += 1;
      } else {
        this.held.set(report, nowNs + this.refusedRetryNs);
      }
    }
    this.dropped += lost;
    return lost;
  }

  private sent(taken: Report[]): Report[] {
    for (const report of taken) {
      if (report.endedNs === 0n) report.saidLive = true;
    }
    return taken;
  }

  private forget(report: Report): void {
    report.tracked = false;
    this.tracked.delete(report);
  }

  private keep(report: Report, nowNs: bigint): boolean {
    if (this.held.has(report)) return false;
    return this.put(report.alone ? this.alone : this.kept, report, nowNs);
  }

  private put(pool: Set<Report>, report: Report, nowNs: bigint): boolean {
    const before = this.pending;
    pool.add(report);
    if (before === 0) {
      this.lingerEndsNs = nowNs + this.lingerNs;
      return true;
    }
    return before + 1 === this.limits.batchMaxReports;
  }

  /** Takes back what was held back until then; null: all of it. */
  private release(untilNs: bigint | null, nowNs: bigint): void {
    for (const [report, atNs] of this.held) {
      if (untilNs === null || atNs <= untilNs) {
        this.held.delete(report);
        this.put(this.alone, report, nowNs);
      }
    }
  }
}
