/**
 * What happened, for logs and metrics? One value for each kind of thing, handed to the client's `onEvent`.
 *
 * Invariant: the number of events is bounded by what the transport does (attempts, responses), never by how many
 * reports there are: a full buffer makes one `Dropped` with a count.
 */

import { debuglog } from "node:util";

const debug = debuglog("appstatsd");

/** A stream was opened and answered. */
export interface Connected {
  readonly type: "Connected";
  readonly clientId: string;
  /** The number that the daemon held for this client_id. */
  readonly ackedSequence: bigint;
}

/** A stream ended, or could not be opened; another attempt follows. */
export interface Disconnected {
  readonly type: "Disconnected";
  /** Name of the gRPC status. */
  readonly status: string;
  readonly details: string;
  /** 1: the first since a stream was answered. */
  readonly attempt: number;
  /** How long until the next attempt. */
  readonly retryMs: number;
}

/** One report that the daemon did not accept. */
export interface Rejection {
  readonly sessionId: string;
  /** `RejectionReason` by name. */
  readonly reason: string;
  /** The field, the value and what is allowed. */
  readonly message: string;
}

/** The daemon did not accept some reports; their neighbors it did. */
export interface Rejected {
  readonly type: "Rejected";
  readonly rejections: readonly Rejection[];
}

/** The daemon refused a whole batch, and it is not sent again. */
export interface BatchRefused {
  readonly type: "BatchRefused";
  readonly status: string;
  readonly details: string;
  /** How many reports it held. */
  readonly reports: number;
  /** How many of them are lost; the others are sent again, each alone. */
  readonly dropped: number;
}

/** There was no room for reports, or the client was closed. */
export interface Dropped {
  readonly type: "Dropped";
  /** How many since this was last told. */
  readonly reports: number;
  /** How many since the client began. */
  readonly total: number;
}

/** The client took a new client_id. */
export interface ClientIdReplaced {
  readonly type: "ClientIdReplaced";
  readonly oldId: string;
  readonly newId: string;
  readonly status: string;
  readonly details: string;
}

/** The client is closed. */
export interface Closed {
  readonly type: "Closed";
  /** Whether the daemon has confirmed everything. */
  readonly confirmed: boolean;
  /** How many reports were not acknowledged. */
  readonly left: number;
}

export type Event = Connected | Disconnected | Rejected | BatchRefused | Dropped | ClientIdReplaced | Closed;
export type OnEvent = (event: Event) => void;

/** The `onEvent` of a client that was given none: writes to the console; with `NODE_DEBUG=appstatsd`, every attempt. */
export function logEvent(event: Event): void {
  switch (event.type) {
    case "Connected":
      console.info(`connected to appstatsd as ${event.clientId}`);
      break;
    case "Disconnected": {
      // An outage is one warning, however long it lasts.
      const log = event.attempt === 1 ? console.warn : debug;
      const wait = (event.retryMs / 1000).toFixed(1);
      log(`appstatsd is not reached (${event.status}: ${event.details}); reports wait, next attempt in ${wait} s`);
      break;
    }
    case "Rejected": {
      const [first] = event.rejections;
      const what = `appstatsd rejected ${event.rejections.length} reports; the first, of session ${first?.sessionId}`;
      console.warn(`${what}, as ${first?.reason}: ${first?.message}`);
      break;
    }
    case "BatchRefused": {
      const what = `appstatsd refused a batch of ${event.reports} reports (${event.status}: ${event.details})`;
      console.error(`${what}; ${event.dropped} of them are lost, the others are sent again`);
      break;
    }
    case "Dropped":
      console.warn(`no room for ${event.reports} reports (${event.total} since the start); they are lost`);
      break;
    case "ClientIdReplaced": {
      const log = event.status === "ABORTED" || event.status === "ALREADY_EXISTS" ? console.error : console.warn;
      log(`took the new client_id ${event.newId} for ${event.oldId} (${event.status}: ${event.details})`);
      break;
    }
    case "Closed": {
      const log = event.confirmed ? console.info : console.warn;
      log(`closed; reports that appstatsd has not confirmed: ${event.left}`);
    }
  }
}
