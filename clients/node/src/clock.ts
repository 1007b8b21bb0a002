/**
 * What time is it? The two clocks of a client, as one parameter.
 *
 * Starts come from the wall clock, everything that passes from the monotonic one, so a step of the wall clock makes no
 * session negative or days long.
 */

/** A wall clock and a monotonic clock. */
export interface Clock {
  /** Nanoseconds since the Unix epoch, UTC. */
  wallNs(): bigint;
  /** Nanoseconds that never run backwards. */
  monotonicNs(): bigint;
}

/** The clocks of this machine. The wall clock has milliseconds. */
export const SYSTEM_CLOCK: Clock = {
  wallNs: () => BigInt(Date.now()) * 1_000_000n,
  monotonicNs: () => process.hrtime.bigint(),
};

/** Milliseconds, fractions included, as nanoseconds. */
export function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1e6));
}

/** Nanoseconds as milliseconds, fractions included. */
export function milliseconds(ns: bigint): number {
  return Number(ns) / 1e6;
}
