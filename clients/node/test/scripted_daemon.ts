/**
 * A daemon for the tests of the shell: real gRPC, real sockets, and statuses on demand.
 *
 * It keeps the rules of `ModelDaemon`, and does once for each entry of its script what the entry says. Tests wait on
 * what it has seen, with a deadline.
 */

import { EventEmitter } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Metadata, Server, ServerCredentials, status, type ServerDuplexStream } from "@grpc/grpc-js";
import { StreamReportsRequest, StreamReportsResponse, type RejectedReport } from "../src/wire/appstats/v1/appstats.js";
import { ModelDaemon } from "./model_daemon.js";

export const DEADLINE_MS = 60_000;

type Stream = ServerDuplexStream<StreamReportsRequest, StreamReportsResponse>;

/** Ends a stream with a status. */
export interface Refusal {
  readonly status: keyof typeof status;
  /** The message that meets it; a batch where it is not told. */
  readonly at?: "first" | "batch" | "closing";
  readonly retryDelay?: string;
  /** Whether what it meets is applied before: an acknowledgement that is lost. */
  readonly apply?: boolean;
}

/** Waits until `look` says so, asking again at each `event`; fails the test at the deadline. */
export async function waitFor(
  emitter: EventEmitter,
  event: string,
  look: () => unknown,
  say: () => string,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let again = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`it did not come: ${look}; ${say()}`)), DEADLINE_MS);
      again = () => look() && resolve();
      emitter.on(event, again);
      again();
    });
  } finally {
    clearTimeout(timer);
    emitter.off(event, again);
  }
}

/** A gRPC server of the one rpc that clients use. */
export class ScriptedDaemon {
  readonly model = new ModelDaemon();
  readonly script: Refusal[] = [];
  readonly seen: StreamReportsRequest[] = [];
  readonly metadata: Metadata[] = [];
  readonly refused: Refusal[] = [];
  readonly rejections: RejectedReport[] = [];
  port = 0;
  private readonly changes = new EventEmitter().setMaxListeners(0);
  private readonly held: (() => void)[] = [];
  private holds = false;
  private failure: unknown;
  private server: Server | null = null;

  constructor(
    readonly target: string,
    private readonly credentials: ServerCredentials = ServerCredentials.createInsecure(),
  ) {}

  /** Listens, again if it was stopped. */
  async start(): Promise<void> {
    const server = new Server({ "grpc.max_receive_message_length": 8 << 20 });
    const method = {
      path: "/appstats.v1.SessionReportService/StreamReports",
      requestStream: true,
      responseStream: true,
      requestDeserialize: (bytes: Buffer) => StreamReportsRequest.decode(bytes),
      requestSerialize: (message: StreamReportsRequest) => Buffer.from(StreamReportsRequest.encode(message).finish()),
      responseDeserialize: (bytes: Buffer) => StreamReportsResponse.decode(bytes),
      responseSerialize: (message: StreamReportsResponse) =>
        Buffer.from(StreamReportsResponse.encode(message).finish()),
    };
    server.addService({ StreamReports: method }, { StreamReports: (stream: Stream) => this.serve(stream) });
    const address = this.port ? this.target.replace(/:\d+$/, `:${this.port}`) : this.target;
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, this.credentials, (error, port) => (error ? reject(error) : resolve(port)));
    });
    this.port = this.target.startsWith("unix:") ? 0 : port;
    this.server = server;
  }

  /** Ends all streams. */
  stop(): void {
    this.goOn();
    this.server?.forceShutdown();
    this.server = null;
    if (this.target.startsWith("unix:")) rmSync(this.target.slice("unix:".length), { force: true });
  }

  /** Answers nothing until `goOn`. */
  hold(): void {
    this.holds = true;
  }

  goOn(): void {
    this.holds = false;
    for (const answer of this.held.splice(0)) answer();
  }

  /** Waits until what was seen is as `look` says. */
  async wait(look: (daemon: this) => unknown): Promise<void> {
    await waitFor(
      this.changes,
      "seen",
      () => {
        if (this.failure) throw this.failure;
        return look(this);
      },
      () => `seen: ${this.seen.length} messages`,
    );
    if (this.failure) throw this.failure;
  }

  private serve(stream: Stream): void {
    let clientId = "";
    stream.on("error", () => {}); // the client has cancelled
    stream.on("data", (message: StreamReportsRequest) => {
      const kind = message.closing ? "closing" : clientId ? "batch" : "first";
      this.seen.push(message);
      if (kind === "first") this.metadata.push(stream.metadata);
      const refusal = this.script[0] && (this.script[0].at ?? "batch") === kind ? this.script.shift() : undefined;
      if (refusal) this.refused.push(refusal);
      const response: StreamReportsResponse = { ackedSequence: 0n, rejected: [] };
      try {
        if (kind === "first") clientId = message.clientId;
        if (!refusal || refusal.apply) this.apply(kind, clientId, message, response);
      } catch (error) {
        this.failure ??= error;
      }
      const answer = () => {
        if (refusal) this.refuse(stream, refusal);
        else if (kind === "closing") stream.end();
        else stream.write(response);
      };
      if (this.holds) this.held.push(answer);
      else answer();
      this.changes.emit("seen");
    });
  }

  private apply(kind: string, clientId: string, message: StreamReportsRequest, response: StreamReportsResponse): void {
    if (kind === "first") {
      response.ackedSequence = this.model.first(message);
    } else if (kind === "batch") {
      response.ackedSequence = this.model.batch(clientId, message);
      response.rejected.push(...this.rejections.splice(0));
    } else {
      this.model.close(clientId, message);
    }
  }

  private refuse(stream: Stream, refusal: Refusal): void {
    const metadata = new Metadata();
    if (refusal.retryDelay !== undefined) metadata.set("appstats-retry-delay-ms", refusal.retryDelay);
    stream.emit("error", { code: status[refusal.status], details: "as the script says", metadata });
  }
}

/** A folder for one test. */
export function folderOf(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "appstats-"));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A running daemon on a unix socket of the test's own. */
export async function daemonOf(context: TestContext): Promise<ScriptedDaemon> {
  const daemon = new ScriptedDaemon(`unix:${folderOf(context)}/daemon.sock`);
  await daemon.start();
  context.after(() => daemon.stop());
  return daemon;
}
