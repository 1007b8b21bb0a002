//! How much may a client hold, and how long may it wait? The constants of `docs/client-protocol.md`.
//!
//! Invariant: no combination that passes here breaks a limit of the daemon (10,000 reports and 4 MiB a batch).

use std::time::Duration;

use crate::invalid::Invalid;

/// How long `close` tries, where nothing else is said.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds and times of a client.
///
/// A client holds at most `max_live_sessions` + `max_pending_reports` + `window_batches` × `batch_max_reports` reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Reports in a batch; at most 10,000.
    pub batch_max_reports: usize,
    /// Bytes in a batch; at most 4 MiB.
    pub batch_max_bytes: usize,
    /// How long a report waits for others to share its batch with.
    pub linger: Duration,
    /// Batches on their way without an acknowledgement.
    pub window_batches: usize,
    /// Sessions that the daemon may believe to be in use, or will. Others are reported when they end.
    pub max_live_sessions: usize,
    /// Reports of ended sessions that wait to be sent. Further ones are dropped and counted.
    pub max_pending_reports: usize,
    /// Bound of the first random wait before a reconnect; it doubles with every attempt.
    pub backoff_base: Duration,
    /// Bound of every such wait.
    pub backoff_max: Duration,
    /// How long an attempt to connect may take that nobody answers.
    pub connect_timeout: Duration,
    /// The longest wait of all, and the one after a refusal that only a person can mend.
    pub retry_slowest: Duration,
    /// When a report that the daemon refused alone, and that must not be lost, is tried again.
    pub refused_retry: Duration,
    /// Silence after which the client pings.
    pub keepalive_time: Duration,
    /// How long an answer to a ping may take.
    pub keepalive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_max_reports: 1_000,
            batch_max_bytes: 1 << 20,
            linger: Duration::from_secs(1),
            window_batches: 8,
            max_live_sessions: 100_000,
            max_pending_reports: 100_000,
            backoff_base: Duration::from_millis(250),
            backoff_max: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(5),
            retry_slowest: Duration::from_secs(10),
            refused_retry: Duration::from_secs(60),
            keepalive_time: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Itself, unless one is out of range.
    pub(crate) fn checked(self) -> Result<Self, Invalid> {
        for (name, value, most) in [
            ("batch_max_reports", self.batch_max_reports, 10_000),
            ("batch_max_bytes", self.batch_max_bytes, 4 << 20),
            ("window_batches", self.window_batches, usize::MAX),
            ("max_live_sessions", self.max_live_sessions, usize::MAX),
            ("max_pending_reports", self.max_pending_reports, usize::MAX),
        ] {
            if !(1..=most).contains(&value) {
                return Err(Invalid(format!("{name} is {value}; it has to be from 1 to {most}")));
            }
        }
        let least = Duration::from_millis(1);
        let most = Duration::from_secs(365 * 24 * 3600);
        for (name, value, least) in [
            ("linger", self.linger, Duration::ZERO),
            ("backoff_base", self.backoff_base, least),
            ("backoff_max", self.backoff_max, least),
            ("connect_timeout", self.connect_timeout, least),
            ("retry_slowest", self.retry_slowest, least),
            ("refused_retry", self.refused_retry, least),
            ("keepalive_time", self.keepalive_time, least),
            ("keepalive_timeout", self.keepalive_timeout, least),
        ] {
            if !(least..=most).contains(&value) {
                return Err(Invalid(format!("{name} is {value:?}; it has to be from {least:?} to {most:?}")));
            }
        }
        Ok(self)
    }
}

/// Nanoseconds; what [`Limits`] lets pass fits.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
