/**
 * What does the proxy call? A session's handle, and all of a client that is no I/O.
 *
 * Invariant: nothing here waits, and nothing throws for what the transport does.
 */

import { randomBytes, randomUUID } from "node:crypto";
import { idText, type App, type UuidLike } from "./app.js";
import { SYSTEM_CLOCK, type Clock } from "./clock.js";
import { Core, type Stats } from "./core.js";
import { logEvent, type OnEvent } from "./events.js";
import { completeLimits, type Limits } from "./limits.js";
import { Report } from "./report.js";

/** One use of one app by one user, as the proxy holds it. With `using` it ends when the block does. */
export class Session {
  private readonly reporter: SessionReporter;
  private readonly report: Report;

  /** Made by `begin`. */
  constructor(reporter: SessionReporter, report: Report) {
    this.reporter = reporter;
    this.report = report;
  }

  /** What identifies it, in the database too: a UUID as text. */
  get sessionId(): string {
    return this.report.sessionId;
  }

  /** The app that is used. */
  get app(): App {
    return this.report.app;
  }

  /** How many requests were counted so far. */
  get requests(): number {
    return this.report.requests;
  }

  /** When it began: nanoseconds since the Unix epoch, UTC. */
  get startedNs(): bigint {
    return this.report.startedNs;
  }

  /** When it ended: nanoseconds since the Unix epoch, UTC; 0 while it is live. */
  get endedNs(): bigint {
    return this.report.endedNs;
  }

  /**
   * Counts that many more requests. Does nothing once the session has ended. Throws `RangeError` where `requests` is no
   * count.
   */
  update(requests = 1): void {
    checkCount(requests);
    this.reporter.updateSession(this.report, requests);
  }

  /** Says that it is over, now. Does nothing once the session has ended. */
  end(): void {
    this.reporter.endSession(this.report);
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

/** What may be said when a session begins. */
export interface BeginOptions {
  /** How many requests to begin with; 1 where it is not told. */
  readonly requests?: number;
  /**
   * False: nothing is reported until the session ends, and nothing at all if it never does. For requests that may turn
   * out to be redirects or 404s.
   */
  readonly reportLive?: boolean;
  /** With `startedNs`, to go on with a session that another process began. */
  readonly sessionId?: UuidLike;
  /** Nanoseconds since the Unix epoch. */
  readonly startedNs?: bigint;
}

/** What a client may be told. */
export interface ClientOptions {
  readonly limits?: Partial<Limits>;
  /** Called with what happened, by the client, never on the proxy's call. */
  readonly onEvent?: OnEvent;
  readonly clock?: Clock;
}

/** Everything that the proxy calls on its way, and no I/O. */
export abstract class SessionReporter {
  protected readonly core: Core;
  protected readonly clock: Clock;
  protected readonly limits: Limits;
  private readonly onEvent: OnEvent;
  private hasStarted = false;

  constructor(options: ClientOptions) {
    this.limits = completeLimits(options.limits ?? {});
    this.clock = options.clock ?? SYSTEM_CLOCK;
    this.onEvent = options.onEvent ?? logEvent;
    this.core = new Core(
      this.limits,
      () => randomBytes(16).toString("hex"),
      (least, most) => least + Math.random() * (most - least),
    );
  }

  /**
   * Begins a session of this app, now, with a new session id and one request. Throws `RangeError` where an option
   * cannot be, and nothing else.
   */
  begin(app: App, options: BeginOptions = {}): Session {
    const monotonicNs = this.clock.monotonicNs();
    const wallNs = this.clock.wallNs();
    const { requests = 1, reportLive = true, startedNs = wallNs } = options;
    checkCount(requests);
    if (startedNs <= 0n || startedNs >= 1n << 63n) {
      throw new RangeError(`startedNs is ${startedNs}; it has to be nanoseconds since the Unix epoch`);
    }
    const sessionId = options.sessionId === undefined ? randomUUID() : idText("sessionId", options.sessionId);
    const originNs = startedNs < wallNs ? monotonicNs - (wallNs - startedNs) : monotonicNs;
    const report = new Report(app, sessionId, startedNs, originNs, requests);
    if (!this.hasStarted) {
      this.hasStarted = true;
      this.start();
    }
    if (reportLive && this.core.buffer.begin(report, monotonicNs)) this.wake();
    return new Session(this, report);
  }

  /** What `Session.update` does. */
  updateSession(report: Report, requests: number): void {
    if (report.endedNs !== 0n) return;
    report.count(requests);
    if (this.core.buffer.changed(report, this.clock.monotonicNs())) this.wake();
  }

  /** What `Session.end` does. */
  endSession(report: Report): void {
    if (report.endedNs !== 0n) return;
    const nowNs = this.clock.monotonicNs();
    report.end(nowNs);
    if (this.core.buffer.ended(report, nowNs)) this.wake();
  }

  /** What the client holds and has done so far. */
  stats(): Stats {
    return this.core.stats();
  }

  /** The first session begins. */
  protected abstract start(): void;

  /** A waiting sender has to look again. */
  protected abstract wake(): void;

  /** Hands what happened to `onEvent`; by the shell. */
  protected tell(): void {
    for (const event of this.core.takeEvents()) {
      try {
        this.onEvent(event);
      } catch (error) {
        // The proxy's own code: its mistakes must not cost reports.
        console.error(`onEvent failed for ${event.type}:`, error);
      }
    }
  }
}

function checkCount(requests: number): void {
  if (!(Number.isSafeInteger(requests) && requests >= 0)) {
    throw new RangeError(`requests is ${requests}; it has to be a whole number, and a count only grows`);
  }
}
