/**
 * Reports the sessions of a proxy to the appstatsd daemon on its host.
 *
 * What a `Client` does is written down in `docs/client-protocol.md`.
 */

export { AccessMethod, App, type UuidLike } from "./app.js";
export { Client } from "./client.js";
export type { Clock } from "./clock.js";
export type { Stats } from "./core.js";
export type {
  BatchRefused,
  ClientIdReplaced,
  Closed,
  Connected,
  Disconnected,
  Dropped,
  Event,
  OnEvent,
  Rejected,
  Rejection,
} from "./events.js";
export type { Limits } from "./limits.js";
export { Session, type BeginOptions, type ClientOptions } from "./session.js";
export { tlsFromFiles, type Tls } from "./transport.js";
