/**
 * How much may a client hold, and how long may it wait? The constants of `docs/client-protocol.md`.
 *
 * Its `channel_backoff_max` has no place here: every stream has a channel of its own, so no channel waits between
 * attempts.
 *
 * Invariant: no combination that passes here breaks a limit of the daemon (10,000 reports and 4 MiB a batch).
 */

/** How long `close` tries, where it is not told. */
export const CLOSE_TIMEOUT_MS = 5_000;

/**
 * Bounds and times of a client. It holds at most `maxLiveSessions` + `maxPendingReports` + `windowBatches` ×
 * `batchMaxReports` reports.
 */
export interface Limits {
  /** Reports in a batch; at most 10,000. */
  readonly batchMaxReports: number;
  /** Bytes in a batch; at most 4 MiB. */
  readonly batchMaxBytes: number;
  /** How long a report waits for others to share its batch with. */
  readonly lingerMs: number;
  /** Batches on their way without an acknowledgement. */
  readonly windowBatches: number;
  /** Sessions that the daemon may believe to be in use, or will. Others are reported when they end. */
  readonly maxLiveSessions: number;
  /** Reports of ended sessions that wait to be sent. Further ones are dropped and counted. */
  readonly maxPendingReports: number;
  /** Bound of the first random wait before a reconnect; it doubles with every attempt. */
  readonly backoffBaseMs: number;
  /** Bound of every such wait. */
  readonly backoffMaxMs: number;
  /** How long an attempt to connect may take that nobody answers. */
  readonly connectTimeoutMs: number;
  /** The longest wait of all, and the one after a refusal that only a person can mend. */
  readonly retrySlowestMs: number;
  /** When a report that the daemon refused alone, and that must not be lost, is tried again. */
  readonly refusedRetryMs: number;
  /** Silence after which the client pings. */
  readonly keepaliveTimeMs: number;
  /** How long an answer to a ping may take. */
  readonly keepaliveTimeoutMs: number;
}

/** What a client takes where it is not told. */
export const DEFAULT_LIMITS: Limits = {
  batchMaxReports: 1_000,
  batchMaxBytes: 1 << 20,
  lingerMs: 1_000,
  windowBatches: 8,
  maxLiveSessions: 100_000,
  maxPendingReports: 100_000,
  backoffBaseMs: 250,
  backoffMaxMs: 8_000,
  connectTimeoutMs: 5_000,
  retrySlowestMs: 10_000,
  refusedRetryMs: 60_000,
  keepaliveTimeMs: 20_000,
  keepaliveTimeoutMs: 10_000,
};

/**
 * The defaults with what is given in their place. Throws `RangeError` where one is out of range, or no limit at all.
 */
export function completeLimits(given: Partial<Limits>): Limits {
  for (const [name, value] of Object.entries(given)) {
    if (!(name in DEFAULT_LIMITS))
      throw new RangeError(`${name} is no limit; there are ${Object.keys(DEFAULT_LIMITS).join(", ")}`);
    const least = name === "lingerMs" ? 0 : 1;
    if (!(value >= least)) throw new RangeError(`${name} is ${value}; it has to be at least ${least}`);
  }
  const limits = { ...DEFAULT_LIMITS, ...given };
  if (limits.batchMaxReports > 10_000)
    throw new RangeError(`batchMaxReports is ${limits.batchMaxReports}; the daemon takes at most 10000`);
  if (limits.batchMaxBytes > 4 << 20)
    throw new RangeError(`batchMaxBytes is ${limits.batchMaxBytes}; the daemon takes at most ${4 << 20}`);
  return limits;
}
