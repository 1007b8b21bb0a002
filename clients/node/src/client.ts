/**
 * How do reports leave a proxy? The shell around the core: one asynchronous task, on the proxy's own loop.
 *
 * It opens streams, one after another. What comes in is handed to the core as it comes; what goes out is written when
 * the core has something and gRPC has room for it, and the proxy gets its turn between any two messages.
 *
 * Invariant: at most one thing waits for `wake` at a time; the task ends when the core is done, and `close` waits for
 * it.
 */

import { setImmediate as proxysTurn } from "node:timers/promises";
import { status as statuses, type ClientDuplexStream, type StatusObject } from "@grpc/grpc-js";
import { milliseconds } from "./clock.js";
import { CLOSE_TIMEOUT_MS } from "./limits.js";
import { SessionReporter, type ClientOptions } from "./session.js";
import { isConnected, metadata, METHOD, retryDelayMs, Transport, type Tls } from "./transport.js";
import { StreamReportsResponse } from "./wire/appstats/v1/appstats.js";

type Call = ClientDuplexStream<Uint8Array, StreamReportsResponse>;
type Ending = Pick<StatusObject, "code" | "details"> & { readonly retryDelayMs: number | null };

const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Reports sessions. One for each process; with `await using` it is closed when the block ends. */
export class Client extends SessionReporter implements AsyncDisposable {
  private readonly transport: Transport;
  private task: Promise<void> | null = null;
  private call: Call | null = null; // the stream that is open
  private wakeUp: () => void = () => {};

  /**
   * `target` is `unix:PATH` or `HOST:PORT`.
   *
   * Throws `RangeError` where `target` is neither, or has TLS on a unix socket, or where a limit is out of range.
   */
  constructor(target: string, options: ClientOptions & { readonly tls?: Tls } = {}) {
    super(options);
    this.transport = new Transport(target, options.tls, this.limits);
  }

  /** Ends what is left and sends it; true when the daemon has confirmed everything within that time. */
  async close(timeoutMs = CLOSE_TIMEOUT_MS): Promise<boolean> {
    this.core.close(this.clock.monotonicNs());
    this.wake();
    if (this.task && !this.core.done) {
      let timer: NodeJS.Timeout | undefined;
      const deadline = new Promise<void>(
        (resolve) => (timer = setTimeout(resolve, Math.min(timeoutMs, LONGEST_TIMER_MS))),
      );
      await Promise.race([this.task, deadline]);
      clearTimeout(timer);
    }
    this.core.abandon();
    this.wake();
    this.call?.cancel();
    await this.task;
    this.tell();
    return this.core.confirmed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  protected override start(): void {
    if (!this.core.done) this.task = this.run();
  }

  protected override wake(): void {
    this.wakeUp();
  }

  private async run(): Promise<void> {
    await proxysTurn(); // not on the proxy's call
    while (!this.core.done) {
      if (this.core.connectAtNs > this.clock.monotonicNs()) {
        await this.waitUntil(this.core.connectAtNs);
        continue;
      }
      try {
        await this.report();
      } catch (error) {
        console.error("the stream to appstatsd is given up; another one follows:", error);
        this.core.ended("UNKNOWN", String(error), null, this.clock.monotonicNs());
      }
      this.tell();
    }
    this.transport.closeHanging();
  }

  /** Waits until then (null: for ever), or until something has changed. */
  private waitUntil(atNs: bigint | null): Promise<void> {
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      if (atNs !== null) {
        const waitMs = Math.ceil(milliseconds(atNs - this.clock.monotonicNs()));
        timer = setTimeout(resolve, Math.min(Math.max(waitMs, 1), LONGEST_TIMER_MS));
      }
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Opens a stream and lives through it. */
  private async report(): Promise<void> {
    const channel = this.transport.take();
    let hangs = false;
    try {
      const first = this.core.opened(this.clock.monotonicNs());
      const call: Call = channel.makeBidiStreamRequest(METHOD, asBuffer, StreamReportsResponse.decode, metadata());
      this.call = call;
      const connecting = setTimeout(() => {
        hangs = !isConnected(channel);
        if (hangs) call.cancel();
      }, this.limits.connectTimeoutMs);
      try {
        call.write(first);
        const ending = await this.live(call);
        const { code, details } = hangs
          ? { code: statuses.UNAVAILABLE, details: "nobody answers the attempt to connect" }
          : ending;
        this.core.ended(statuses[code] ?? String(code), details, ending.retryDelayMs, this.clock.monotonicNs());
      } finally {
        clearTimeout(connecting);
        this.call = null;
        call.cancel();
      }
    } finally {
      this.transport.giveBack(channel, hangs);
    }
  }

  /**
   * Reads and writes until the stream has ended. Rejects where the core throws, which is a mistake of the client's own.
   */
  private live(call: Call): Promise<Ending> {
    return new Promise((resolve, reject) => {
      let over = false;
      const end = (settle: () => void) => {
        over = true;
        this.wake();
        settle();
      };
      call.on("error", () => {}); // comes with a status, which says the same
      call.on("drain", () => this.wake());
      call.on("data", (response: StreamReportsResponse) => {
        if (over) return;
        try {
          if (!this.core.answered(response, this.clock.monotonicNs())) call.cancel();
          this.transport.closeHanging();
          this.wake();
          this.tell();
        } catch (error) {
          end(() => reject(error));
        }
      });
      call.on("status", ({ code, details, metadata }: StatusObject) => {
        end(() => resolve({ code, details, retryDelayMs: retryDelayMs(metadata) }));
      });
      this.write(call, () => over).catch((error: unknown) => end(() => reject(error)));
    });
  }

  /** Writes what goes out on one stream, as soon as it may. */
  private async write(call: Call, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const hasRoom = !call.writableNeedDrain;
      const message = hasRoom ? this.core.nextMessage(this.clock.monotonicNs()) : null;
      if (message !== null) {
        call.write(message);
        await proxysTurn();
      } else {
        await this.waitUntil(hasRoom ? this.core.lookAgainAtNs() : null);
      }
    }
  }
}

function asBuffer(message: Uint8Array): Buffer {
  return Buffer.from(message.buffer, message.byteOffset, message.byteLength);
}
