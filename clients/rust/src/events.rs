//! What happened, for logs and metrics? One value for each kind of thing, handed to the client's `on_event`.
//!
//! Invariant: the number of events is bounded by what the transport does (attempts, responses), never by how many reports
//! there are: a full buffer makes one `Dropped` with a count.

use std::time::Duration;

use tracing::{debug, error, info, warn};
use uuid::Uuid;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A stream was opened and answered.
    Connected {
        /// Under which client_id.
        client_id: String,
        /// The number that the daemon held for it.
        acked_sequence: u64,
    },
    /// A stream ended, or could not be opened; another attempt follows.
    Disconnected {
        /// Name of the gRPC status.
        status: &'static str,
        /// What came with it.
        details: String,
        /// 1: the first since a stream was answered.
        attempt: u64,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The daemon did not accept some reports; their neighbors it did.
    Rejected {
        /// One entry for each report.
        rejections: Vec<Rejection>,
    },
    /// The daemon refused a whole batch, and it is not sent again.
    BatchRefused {
        /// Name of the gRPC status.
        status: &'static str,
        /// What came with it.
        details: String,
        /// How many reports it held.
        reports: usize,
        /// How many of them are lost; the others are sent again, each alone.
        dropped: usize,
    },
    /// There was no room for reports, or the client was closed.
    Dropped {
        /// How many since this was last told.
        reports: u64,
        /// How many since the client began.
        total: u64,
    },
    /// The client took a new client_id.
    ClientIdReplaced {
        /// The one before.
        old: String,
        /// The one from now on.
        new: String,
        /// Name of the gRPC status.
        status: &'static str,
        /// What came with it.
        details: String,
    },
    /// This process was forked from one whose client had begun to report; here the client takes nothing.
    ForkedAfterStart {
        /// The process that reports.
        parent_pid: u32,
    },
    /// The client is closed.
    Closed {
        /// Whether the daemon has confirmed everything.
        confirmed: bool,
        /// How many reports were not acknowledged.
        left: usize,
    },
}

/// One report that the daemon did not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which session it was of.
    pub session_id: Uuid,
    /// `RejectionReason` by name.
    pub reason: String,
    /// The field, the value and what is allowed.
    pub message: String,
}

/// The `on_event` of a client that was given none: tells `tracing`.
pub(crate) fn log_event(event: &Event) {
    match event {
        Event::Connected { client_id, .. } => info!("connected to appstatsd as {client_id}"),
        Event::Disconnected { status, details, attempt, retry_in } => {
            let what = "appstatsd is not reached";
            // An outage is one warning, however long it lasts.
            if *attempt == 1 {
                warn!("{what} ({status}: {details}); reports wait, next attempt in {retry_in:.1?}");
            } else {
                debug!("{what} ({status}: {details}); reports wait, next attempt in {retry_in:.1?}");
            }
        }
        Event::Rejected { rejections } => {
            if let Some(Rejection { session_id, reason, message }) = rejections.first() {
                let count = rejections.len();
                let first = format_args!("the first, of session {session_id}, as {reason}: {message}").to_string();
                warn!("appstatsd rejected {count} reports; {first}");
            }
        }
        Event::BatchRefused { status, details, reports, dropped } => error!(
            "appstatsd refused a batch of {reports} reports ({status}: {details}); \
             {dropped} of them are lost, the others are sent again"
        ),
        Event::Dropped { reports, total } => {
            warn!("no room for {reports} reports ({total} since the start); they are lost");
        }
        Event::ClientIdReplaced { old, new, status, details } => {
            if matches!(*status, "ABORTED" | "ALREADY_EXISTS") {
                error!("took the new client_id {new} for {old} ({status}: {details})");
            } else {
                warn!("took the new client_id {new} for {old} ({status}: {details})");
            }
        }
        Event::ForkedAfterStart { parent_pid } => error!(
            "forked from process {parent_pid} after its client began to report; \
             make a client in each process, after the fork"
        ),
        Event::Closed { confirmed: true, .. } => info!("closed; appstatsd has confirmed everything"),
        Event::Closed { left, .. } => warn!("closed; reports that appstatsd has not confirmed: {left}"),
    }
}
