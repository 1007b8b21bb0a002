//! What is known of one session? The one value that a session's handle, the buffer and the batches share.
//!
//! Invariant: `started_ns` and `session_id` never change, `requests` only grows, and `ended_ns` is set once. The state has a
//! lock of its own, which is taken last and held for a few instructions; what changes it holds the client's lock, too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::app::App;

/// Where a count stays; the database has no room for more.
pub(crate) const MAX_REQUESTS: u32 = i32::MAX as u32;

/// One session.
pub(crate) struct Report {
    pub app: App,
    pub session_id: Uuid,
    /// Nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// What the monotonic clock said at the start; negative where that was before the clock's zero.
    origin_ns: i64,
    state: Mutex<State>,
}

/// The newest state of one session.
pub(crate) struct State {
    /// Nanoseconds since the Unix epoch; 0 while the session is live.
    pub ended_ns: u64,
    pub requests: u32,
    /// Its place among the tracked sessions: the daemon may believe it to be in use, or soon will, and its reports are never
    /// dropped.
    pub tracked: Option<u64>,
    /// Whether it was put into a batch as live.
    pub said_live: bool,
    /// Whether the daemon rejected a report of it: it is not reported live again.
    pub rejected: bool,
    /// Whether it was in a batch that the daemon refused: it shares no batch until one of its own is acknowledged.
    pub alone: bool,
    /// Where its report waits.
    pub waits: Option<(Pool, u64)>,
}

/// Where a report can wait; see the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    Kept,
    Ordinary,
    Alone,
    Held,
}

impl Report {
    pub fn new(app: App, session_id: Uuid, started_ns: u64, origin_ns: i64, requests: u32) -> Self {
        let state = State {
            ended_ns: 0,
            requests: requests.min(MAX_REQUESTS),
            tracked: None,
            said_live: false,
            rejected: false,
            alone: false,
            waits: None,
        };
        Self { app, session_id, started_ns, origin_ns, state: Mutex::new(state) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts that many more requests. False: the session has ended.
    pub fn count(&self, requests: u32) -> bool {
        let mut state = self.state();
        if state.ended_ns != 0 {
            return false;
        }
        state.requests = state.requests.saturating_add(requests).min(MAX_REQUESTS);
        true
    }

    /// Sets the end: the start plus what has passed since. False: the session has ended before.
    pub fn end(&self, monotonic_ns: u64) -> bool {
        let mut state = self.state();
        if state.ended_ns != 0 {
            return false;
        }
        let passed_ns = i64::try_from(monotonic_ns).unwrap_or(i64::MAX).saturating_sub(self.origin_ns).max(0);
        state.ended_ns = self.started_ns.saturating_add(passed_ns.unsigned_abs()).max(1); // 0 would be live
        true
    }
}
