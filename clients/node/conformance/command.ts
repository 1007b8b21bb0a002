/**
 * What does the Node client do when it is told? The command of the conformance suite; `tests/conformance/README.md` has its
 * instructions.
 *
 * Invariant: each line of input is answered by one line of output, before the next one is carried out.
 */

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Client as Channel, credentials } from "@grpc/grpc-js";
import {
  AccessMethod,
  App,
  Client,
  tlsFromFiles,
  type BeginOptions,
  type Event,
  type Limits,
  type Session,
  type Stats,
} from "../src/index.js";

type Json = Record<string, unknown>;

interface ToldApp {
  readonly user_id: string;
  readonly workspace_id: string;
  readonly agent_id: string;
  readonly access_method: string;
  readonly slug_or_port: string;
}

interface Told {
  readonly do: string;
  readonly target: string;
  readonly limits?: Record<string, number>;
  readonly tls?: { readonly ca: string; readonly certificate: string; readonly key: string };
  readonly session: string;
  readonly app: ToldApp;
  readonly requests?: number;
  readonly report_live?: boolean;
  readonly session_id?: string;
  readonly started_ns?: string;
  readonly seconds: number;
  readonly timeout_seconds: number;
  readonly rounds: number;
  readonly pairs: number;
  readonly calls: number;
}

let client: Client;
let happened: Event[] = [];
let wallStepNs = 0n;
const sessions = new Map<string, Session>();

function carryOut(told: Told): Json | Promise<Json> {
  switch (told.do) {
    case "open":
      client = new Client(told.target, {
        limits: limitsOf(told.limits ?? {}),
        onEvent: (event) => happened.push(event),
        clock: {
          wallNs: () => BigInt(Date.now()) * 1_000_000n + wallStepNs,
          monotonicNs: () => process.hrtime.bigint(),
        },
        ...(told.tls && { tls: tlsFromFiles(told.tls.ca, told.tls.certificate, told.tls.key) }),
      });
      return {};
    case "begin": {
      const session = client.begin(appOf(told.app), optionsOf(told));
      sessions.set(told.session, session);
      return { session_id: session.sessionId };
    }
    case "update":
      sessions.get(told.session)!.update(told.requests);
      return {};
    case "end":
      sessions.get(told.session)!.end();
      return {};
    case "stats":
      return statsOf(client.stats());
    case "events": {
      const events = happened.map(eventOf);
      happened = [];
      return { events };
    }
    case "step_wall":
      wallStepNs += BigInt(Math.round(told.seconds * 1e9));
      return {};
    case "close":
      return client.close(told.timeout_seconds * 1000).then((confirmed) => ({ confirmed }));
    case "bench":
      return bench(told);
    default:
      throw new RangeError(`there is no instruction ${told.do}`);
  }
}

/** `linger_seconds` is `lingerMs`. The channel's backoff is no limit of this client: its channels make one attempt each. */
function limitsOf(told: Record<string, number>): Partial<Limits> {
  const limits = Object.entries(told).filter(([name]) => name !== "channel_backoff_max_seconds");
  return Object.fromEntries(
    limits.map(([name, value]) => {
      const [inMs, factor] = name.endsWith("_seconds") ? [name.replace(/seconds$/, "ms"), 1000] : [name, 1];
      return [inMs.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()), value * factor];
    }),
  );
}

function appOf(told: ToldApp): App {
  const method = AccessMethod[told.access_method.toUpperCase() as keyof typeof AccessMethod];
  return new App(told.user_id, told.workspace_id, told.agent_id, method, told.slug_or_port);
}

function optionsOf(told: Told): BeginOptions {
  return {
    ...(told.requests !== undefined && { requests: told.requests }),
    ...(told.report_live !== undefined && { reportLive: told.report_live }),
    ...(told.session_id !== undefined && { sessionId: told.session_id }),
    ...(told.started_ns !== undefined && { startedNs: BigInt(told.started_ns) }),
  };
}

function statsOf(stats: Stats): Json {
  return Object.fromEntries(
    Object.entries(stats).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
}

function eventOf(event: Event): Json {
  switch (event.type) {
    case "Connected":
      return { event: event.type };
    case "Disconnected":
      return { event: event.type, status: event.status, retry_seconds: event.retryMs / 1000 };
    case "Rejected":
      return { event: event.type, reasons: event.rejections.map((rejection) => rejection.reason) };
    case "BatchRefused":
      return { event: event.type, status: event.status, reports: event.reports, dropped: event.dropped };
    case "Dropped":
      return { event: event.type, reports: event.reports };
    case "ClientIdReplaced":
      return { event: event.type, status: event.status };
    case "Closed":
      return { event: event.type, confirmed: event.confirmed, left: event.left };
  }
}

async function bench({ target, rounds, pairs, calls }: Told): Promise<Json> {
  const text = (number: number) => `00000000-0000-0000-0000-00000000000${number}`;
  const app = new App(text(1), text(2), text(3), AccessMethod.PATH, "bench");
  const benched = new Client(target, { onEvent: () => {} });
  const costs: number[] = [];
  for (let round = 0; round <= rounds; round += 1) costs.push(await oneRound(benched, app, pairs));
  await benched.close();
  const channel = new Channel(target, credentials.createInsecure());
  const times: number[] = [];
  for (let call = 0; call < calls + Math.floor(calls / 10); call += 1) times.push(await oneCall(channel));
  channel.close();
  return { begin_end_ns: median(costs.slice(1)), unary_call_ns: median(times.slice(Math.floor(calls / 10))) };
}

/** What begin and end of one session cost, in nanoseconds; then waits until all is acknowledged. */
async function oneRound(benched: Client, app: App, pairs: number): Promise<number> {
  const began = process.hrtime.bigint();
  for (let pair = 0; pair < pairs; pair += 1) benched.begin(app).end();
  const cost = Number(process.hrtime.bigint() - began) / pairs;
  for (let stats = benched.stats(); stats.pendingReports + stats.unacknowledgedReports > 0; stats = benched.stats()) {
    await sleep(10);
  }
  return cost;
}

function oneCall(channel: Channel): Promise<number> {
  const asIs = (bytes: Buffer) => bytes;
  const began = process.hrtime.bigint();
  return new Promise((resolve, reject) => {
    channel.makeUnaryRequest("/grpc.health.v1.Health/Check", asIs, asIs, Buffer.alloc(0), (error) => {
      if (error) reject(error);
      else resolve(Number(process.hrtime.bigint() - began));
    });
  });
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0);
}

for await (const line of createInterface({ input: process.stdin })) {
  // A number of nanoseconds is more than a JavaScript number holds.
  const told = JSON.parse(line.replace(/("started_ns":\s*)(\d+)/, '$1"$2"')) as Told;
  let answer: Json;
  try {
    answer = await carryOut(told);
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0); // at once, and without closing the client
