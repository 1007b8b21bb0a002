/**
 * What is known of one session? The one value that a session's handle, the buffer and the batches share.
 *
 * Invariant: `startedNs` and `sessionId` never change, `requests` only grows, and `endedNs` is set once.
 */

import type { App } from "./app.js";

/** Where a count stays; the database has no room for more. */
export const MAX_REQUESTS = 2 ** 31 - 1;

/** The newest state of one session. */
export class Report {
  readonly app: App;
  /** A UUID as text, with hyphens. */
  readonly sessionId: string;
  /** Nanoseconds since the Unix epoch. */
  readonly startedNs: bigint;
  /** What the monotonic clock said at the start. */
  readonly originNs: bigint;
  requests: number;
  /** Nanoseconds since the Unix epoch; 0 while the session is live. */
  endedNs = 0n;
  /** Whether the daemon may believe the session to be in use, or soon will: its reports are never dropped. */
  tracked = false;
  /** Whether it was put into a batch as live. */
  saidLive = false;
  /** Whether the daemon rejected a report of it: it is not reported live again. */
  rejected = false;
  /** Whether it was in a batch that the daemon refused: it shares no batch until one of its own is acknowledged. */
  alone = false;

  constructor(app: App, sessionId: string, startedNs: bigint, originNs: bigint, requests: number) {
    this.app = app;
    this.sessionId = sessionId;
    this.startedNs = startedNs;
    this.originNs = originNs;
    this.requests = Math.min(requests, MAX_REQUESTS);
  }

  /** Counts that many more requests. */
  count(requests: number): void {
    this.requests = Math.min(this.requests + requests, MAX_REQUESTS);
  }

  /** Sets the end: the start plus what has passed since. */
  end(monotonicNs: bigint): void {
    const passedNs = monotonicNs - this.originNs;
    this.endedNs = passedNs > 0n ? this.startedNs + passedNs : this.startedNs;
  }
}
