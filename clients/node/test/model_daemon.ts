/**
 * What does a daemon make of what clients send? The sequence rules of the wire and the merge of reports, and nothing
 * else.
 *
 * Invariant: whatever breaks a rule of the wire that no test asked for is an `AssertionError` here, and so fails the
 * test.
 */

import assert from "node:assert/strict";
import { SessionReportColumns, type StreamReportsRequest } from "../src/wire/appstats/v1/appstats.js";

/** What is known of one session. */
export interface Held {
  app: string;
  startedNs: bigint;
  endedNs: bigint;
  requests: number;
}

/** What is known of one client_id. */
interface KnownClient {
  last: bigint;
  contents: Map<bigint, string>;
}

/** An app as the daemon knows it. */
export function appText(user: string, workspace: string, agent: string, accessMethod: number, slug: string): string {
  return [user.replaceAll("-", ""), workspace.replaceAll("-", ""), agent.replaceAll("-", ""), accessMethod, slug].join(
    " ",
  );
}

/** The reports of a batch by session id (in hexadecimal), with its lengths checked. */
export function rows(columns: SessionReportColumns): [string, Held][] {
  const count = columns.app.length;
  assert.equal(columns.requests.length, count);
  assert.equal(columns.sessionStartedAtUnixNano.length, count);
  assert.equal(columns.sessionEndedAtUnixNano.length, count);
  assert.equal(columns.sessionIds.length, 16 * count);
  return columns.app.map((place, i) => {
    const app = columns.apps[place];
    assert.ok(app);
    const [user, workspace, agent] = [app.userId, app.workspaceId, app.agentId].map((id) =>
      Buffer.from(id).toString("hex"),
    );
    const held = {
      app: appText(user!, workspace!, agent!, app.accessMethod, app.slugOrPort),
      startedNs: columns.sessionStartedAtUnixNano[i]!,
      endedNs: columns.sessionEndedAtUnixNano[i]!,
      requests: columns.requests[i]!,
    };
    return [Buffer.from(columns.sessionIds.subarray(16 * i, 16 * i + 16)).toString("hex"), held];
  });
}

/** A daemon without I/O: client ids and sessions. */
export class ModelDaemon {
  readonly clients = new Map<string, KnownClient>();
  readonly sessions = new Map<string, Held>();
  /** Sessions as they were reported, those included that were forgotten. */
  readonly ever = new Map<string, Held>();
  readonly applied: string[] = [];
  readonly closed = new Set<string>();
  readonly dropped = new Map<string, bigint>();

  /** The first message of a stream; returns the number held. */
  first(message: StreamReportsRequest): bigint {
    assert.ok(message.clientId.length >= 1 && message.clientId.length <= 128);
    assert.equal(message.sequence, 0n);
    assert.equal(message.columns, undefined);
    this.dropped.set(message.clientId, message.droppedReports);
    return this.clients.get(message.clientId)?.last ?? 0n;
  }

  /** A batch; returns the number to acknowledge. */
  batch(clientId: string, message: StreamReportsRequest): bigint {
    assert.ok(message.columns);
    assert.ok(message.sequence > 0n);
    assert.ok(!message.closing);
    assert.deepEqual(message.reports, []);
    assert.ok(message.columns.app.length >= 1 && message.columns.app.length <= 10_000);
    const bytes = SessionReportColumns.encode(message.columns).finish();
    assert.ok(bytes.length <= 4 << 20);
    const content = Buffer.from(bytes).toString("base64");
    this.dropped.set(clientId, message.droppedReports);
    let known = this.clients.get(clientId);
    if (!known) this.clients.set(clientId, (known = { last: message.sequence - 1n, contents: new Map() }));
    if (message.sequence <= known.last) {
      assert.equal(known.contents.get(message.sequence), content, "a number was used again with other content");
      return known.last;
    }
    assert.equal(message.sequence, known.last + 1n, "a gap in the numbers");
    known.last = message.sequence;
    known.contents.set(message.sequence, content);
    this.applied.push(`${clientId} ${message.sequence}`);
    for (const [sessionId, told] of rows(message.columns)) {
      for (const store of [this.sessions, this.ever]) {
        const held = store.get(sessionId) ?? { ...told, endedNs: 0n, requests: 0 };
        store.set(sessionId, held);
        assert.deepEqual([held.app, held.startedNs], [told.app, told.startedNs]);
        if (told.endedNs > held.endedNs) held.endedNs = told.endedNs;
        held.requests = Math.max(held.requests, told.requests);
      }
    }
    return known.last;
  }

  /** The last word of a client. */
  close(clientId: string, message: StreamReportsRequest): void {
    assert.ok(message.closing);
    assert.equal(message.sequence, 0n);
    assert.equal(message.columns, undefined);
    this.dropped.set(clientId, message.droppedReports);
    this.closed.add(clientId);
  }

  /** A daemon without a journal was started again. */
  forget(): void {
    this.clients.clear();
    this.sessions.clear();
  }
}
