/**
 * What goes out under one number? A batch of reports as columns.
 *
 * Invariant: the content of a batch never changes after it was cut, whatever happens to its sessions; only its number
 * does, and only when it is sent under another client_id.
 */

import { idBytes, type App } from "./app.js";
import type { Report } from "./report.js";
import { StreamReportsRequest, type SessionReportColumns } from "./wire/appstats/v1/appstats.js";

/** The reports as columns, each distinct app once. */
function columns(reports: readonly Report[]): SessionReportColumns {
  const places = new Map<string, number>();
  const apps: App[] = [];
  const app = reports.map((report) => {
    let place = places.get(report.app.key);
    if (place === undefined) {
      place = apps.push(report.app) - 1;
      places.set(report.app.key, place);
    }
    return place;
  });
  return {
    apps: apps.map(({ userId, workspaceId, agentId, accessMethod, slugOrPort }) => ({
      userId: idBytes([userId]),
      workspaceId: idBytes([workspaceId]),
      agentId: idBytes([agentId]),
      accessMethod: accessMethod as number,
      slugOrPort,
    })),
    app,
    sessionIds: idBytes(reports.map((report) => report.sessionId)),
    sessionStartedAtUnixNano: reports.map((report) => report.startedNs),
    sessionEndedAtUnixNano: reports.map((report) => report.endedNs),
    requests: reports.map((report) => report.requests),
  };
}

/** Any message of a client. */
export function message(fields: Partial<StreamReportsRequest>): Uint8Array {
  const empty = { clientId: "", sequence: 0n, reports: [], columns: undefined, closing: false, droppedReports: 0n };
  return StreamReportsRequest.encode({ ...empty, ...fields }).finish();
}

/** Reports that were put together under a number and wait for its acknowledgement. */
export class Batch {
  number: number;
  /** Whose state it holds, in the order of its columns. */
  readonly reports: readonly Report[];
  /** Those whose end is in it; the others may have ended since. */
  readonly ends: readonly Report[];
  private readonly columns: SessionReportColumns;

  constructor(number: number, reports: readonly Report[]) {
    this.number = number;
    this.reports = reports;
    this.ends = reports.filter((report) => report.endedNs !== 0n);
    this.columns = columns(reports);
  }

  /** The message that carries it. */
  message(droppedReports: number): Uint8Array {
    return message({ sequence: BigInt(this.number), columns: this.columns, droppedReports: BigInt(droppedReports) });
  }
}
