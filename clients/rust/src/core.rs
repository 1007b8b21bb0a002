//! What does the client say next, and when? Buffer and protocol of `docs/client-protocol.md`, without I/O.
//!
//! The shell tells the core what the transport did and asks what to send; time, random numbers and statuses are passed in.
//! Whoever calls it holds the client's lock.
//!
//! Invariant: the batches in `unacked` are numbered without a gap, end at `next_number - 1`, and the first `sent` of them
//! were sent on the present stream. No batch is sent before the stream's first answer.

use std::{collections::VecDeque, mem, time::Duration};

use tonic::Code;

use crate::{
    batch::Batch,
    buffer::Buffer,
    events::{Event, Rejection},
    limits::{Limits, nanoseconds},
    wire::{RejectedReport, RejectionReason, StreamReportsRequest, StreamReportsResponse},
};

/// How a stream ended, or why it could not be opened.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub status: Code,
    pub details: String,
    /// What the daemon said about when to come back.
    pub retry_delay_ms: Option<u64>,
}

/// Where client ids and waits come from.
pub(crate) trait Random: Send {
    fn client_id(&mut self) -> String;
    fn uniform(&mut self, least: f64, most: f64) -> f64;
}

/// What a client holds and has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Empty before the first stream.
    pub client_id: String,
    /// Whether there is a stream that was answered.
    pub connected: bool,
    /// Sessions without an end that the daemon knows, or will.
    pub live_sessions: usize,
    /// Reports that wait to be sent.
    pub pending_reports: usize,
    /// Reports that were put into a batch that is not acknowledged.
    pub unacknowledged_reports: usize,
    /// Reports that the daemon has acknowledged.
    pub acknowledged_reports: u64,
    /// Reports that the daemon did not accept.
    pub rejected_reports: u64,
    /// Reports that were lost for lack of room, refused, or came after the end.
    pub dropped_reports: u64,
}

/// A client's state: what waits, what is on its way, and where the stream is.
pub(crate) struct Core {
    limits: Limits,
    random: Box<dyn Random>,
    pub buffer: Buffer,
    client_id: String,
    unacked: VecDeque<Batch>,
    next_number: u64,
    /// The highest number sent under this client_id.
    last_sent: u64,
    singly: bool,
    opened_at_ns: u64,
    answered: bool,
    sent: usize,
    closing_sent: bool,
    /// Why the client_id cannot be ours alone.
    misused: Option<String>,
    attempts: i32,
    failures: u64,
    acknowledged: u64,
    rejected: u64,
    dropped_told: u64,
    events: Vec<Event>,
    /// When the next stream is to be opened, on the monotonic clock.
    pub connect_at_ns: u64,
    /// Whether there is nothing more to do, ever.
    pub done: bool,
    /// Whether the daemon has confirmed everything after `close`.
    pub confirmed: bool,
}

impl Core {
    pub fn new(limits: Limits, random: Box<dyn Random>) -> Self {
        Self {
            buffer: Buffer::new(limits.clone()),
            limits,
            random,
            client_id: String::new(),
            unacked: VecDeque::new(),
            next_number: 1,
            last_sent: 0,
            singly: false,
            opened_at_ns: 0,
            answered: false,
            sent: 0,
            closing_sent: false,
            misused: None,
            attempts: 0,
            failures: 0,
            acknowledged: 0,
            rejected: 0,
            dropped_told: 0,
            events: Vec::new(),
            connect_at_ns: 0,
            done: false,
            confirmed: false,
        }
    }

    /// Ends what is left; what waits is due now, and so is the next attempt to connect.
    pub fn close(&mut self, now_ns: u64) {
        if self.buffer.closed {
            return;
        }
        self.buffer.close(now_ns);
        self.connect_at_ns = now_ns;
        self.attempts = 0;
        if self.last_sent == 0 && self.unacked.is_empty() && self.buffer.waiting() == 0 {
            self.finish(true);
        }
    }

    /// Gives up: takes nothing any more, and what was not acknowledged is lost.
    pub fn abandon(&mut self) {
        if !self.done {
            self.buffer.closed = true;
            self.finish(false);
        }
    }

    /// A stream is being opened. Returns its first message.
    pub fn opened(&mut self, now_ns: u64) -> StreamReportsRequest {
        if self.client_id.is_empty() {
            self.client_id = self.random.client_id();
        }
        self.opened_at_ns = now_ns;
        StreamReportsRequest {
            client_id: self.client_id.clone(),
            dropped_reports: self.buffer.dropped,
            ..Default::default()
        }
    }

    /// The daemon has answered. False: it speaks of what was never sent, and the stream has to be cancelled.
    #[must_use]
    pub fn answered(&mut self, response: StreamReportsResponse, now_ns: u64) -> bool {
        let acked = response.acked_sequence;
        if acked > self.last_sent {
            self.misused = Some(format!("{acked} is acknowledged, and {} was the last one sent", self.last_sent));
            return false;
        }
        self.reject(response.rejected);
        self.acknowledge(acked);
        if !self.answered {
            self.answered = true;
            self.failures = 0;
            self.events.push(Event::Connected { client_id: self.client_id.clone(), acked_sequence: acked });
            self.buffer.report_live_again(now_ns);
        }
        true
    }

    /// The message to send now; `None`: none yet (see `look_again_at_ns`).
    pub fn next_message(&mut self, now_ns: u64) -> Option<StreamReportsRequest> {
        if !self.answered || self.closing_sent || (self.singly && self.sent > 0) {
            return None;
        }
        if self.sent == self.unacked.len() {
            if !self.may_cut() || !self.buffer.is_due(now_ns) {
                return self.closing();
            }
            self.unacked.push_back(Batch::new(self.next_number, self.buffer.take()));
            self.next_number += 1;
        }
        let batch = &self.unacked[self.sent];
        self.sent += 1;
        self.last_sent = self.last_sent.max(batch.number);
        Some(batch.message(self.buffer.dropped))
    }

    /// When `next_message` may have something though nothing else happened; `None`: not before something does.
    pub fn look_again_at_ns(&self) -> Option<u64> {
        if self.answered && self.may_cut() { self.buffer.due_at_ns() } else { None }
    }

    /// The stream has ended, or could not be opened.
    pub fn ended(&mut self, ending: Ending, now_ns: u64) {
        if self.done {
            return;
        }
        let Ending { mut status, mut details, retry_delay_ms } = ending;
        if self.closing_sent && status == Code::Ok {
            self.finish(true);
            return;
        }
        if let Some(misused) = self.misused.take() {
            (status, details) = (Code::AlreadyExists, misused);
        }
        // Something that was sent is at fault, or the client_id is in use twice.
        let is_refusal = matches!(status, Code::InvalidArgument | Code::ResourceExhausted);
        let is_mistaken_identity = matches!(status, Code::AlreadyExists | Code::Aborted);
        if is_refusal {
            if self.sent == 1 && self.unacked[0].number == 1 {
                self.refuse_first(status, &details, now_ns);
            }
            self.singly = true;
        }
        if is_refusal || is_mistaken_identity {
            self.replace_client_id(status, &details);
        }
        let lasted_ns = now_ns.saturating_sub(self.opened_at_ns);
        if self.answered && lasted_ns >= nanoseconds(self.limits.backoff_max) {
            self.attempts = 0;
        }
        (self.answered, self.sent, self.closing_sent) = (false, 0, false);
        let retry_in = self.wait(status, retry_delay_ms);
        self.connect_at_ns = now_ns.saturating_add(nanoseconds(retry_in));
        self.failures += 1;
        let attempt = self.failures;
        self.events.push(Event::Disconnected { status: name(status), details, attempt, retry_in });
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        let mut taken = mem::take(&mut self.events);
        let total = self.buffer.dropped;
        let reports = total - mem::replace(&mut self.dropped_told, total);
        if reports > 0 {
            taken.push(Event::Dropped { reports, total });
        }
        taken
    }

    /// What the client holds and has done.
    pub fn stats(&self) -> Stats {
        Stats {
            client_id: self.client_id.clone(),
            connected: self.answered,
            live_sessions: self.buffer.live,
            pending_reports: self.buffer.waiting(),
            unacknowledged_reports: self.unacknowledged(),
            acknowledged_reports: self.acknowledged,
            rejected_reports: self.rejected,
            dropped_reports: self.buffer.dropped,
        }
    }

    fn unacknowledged(&self) -> usize {
        self.unacked.iter().map(|batch| batch.reports.len()).sum()
    }

    fn may_cut(&self) -> bool {
        self.unacked.len() < if self.singly { 1 } else { self.limits.window_batches }
    }

    fn closing(&mut self) -> Option<StreamReportsRequest> {
        if !self.buffer.closed || !self.unacked.is_empty() || self.buffer.waiting() > 0 {
            return None;
        }
        self.closing_sent = true;
        Some(StreamReportsRequest { closing: true, dropped_reports: self.buffer.dropped, ..Default::default() })
    }

    fn acknowledge(&mut self, acked: u64) {
        while self.unacked.front().is_some_and(|batch| batch.number <= acked) {
            let Some(batch) = self.unacked.pop_front() else { return };
            self.sent = self.sent.saturating_sub(1);
            self.acknowledged += batch.reports.len() as u64;
            self.buffer.accepted(&batch);
            self.singly = false;
            self.attempts = 0;
        }
    }

    fn reject(&mut self, rejected: Vec<RejectedReport>) {
        let mut rejections = Vec::new();
        for RejectedReport { sequence, index, reason, message } in rejected {
            let batch = self.unacked.iter().find(|batch| batch.number == sequence);
            let Some(report) = batch.and_then(|batch| batch.reports.get(index as usize)) else { continue };
            report.state().rejected = true;
            // A newer daemon may have more reasons.
            let reason = RejectionReason::try_from(reason)
                .map_or_else(|_| reason.to_string(), |known| known.as_str_name().to_owned());
            rejections.push(Rejection { session_id: report.session_id, reason, message });
        }
        self.rejected += rejections.len() as u64;
        if !rejections.is_empty() {
            self.events.push(Event::Rejected { rejections });
        }
    }

    fn refuse_first(&mut self, status: Code, details: &str, now_ns: u64) {
        let Some(batch) = self.unacked.pop_front() else { return };
        let (reports, dropped) = (batch.reports.len(), self.buffer.refused(&batch, now_ns));
        self.dropped_told += dropped as u64;
        self.events.push(Event::BatchRefused { status: name(status), details: details.to_owned(), reports, dropped });
    }

    fn replace_client_id(&mut self, status: Code, details: &str) {
        let new = self.random.client_id();
        let old = mem::replace(&mut self.client_id, new.clone());
        self.events.push(Event::ClientIdReplaced { old, new, status: name(status), details: details.to_owned() });
        self.last_sent = 0;
        self.next_number = 1;
        for batch in &mut self.unacked {
            batch.number = self.next_number;
            self.next_number += 1;
        }
    }

    fn wait(&mut self, status: Code, retry_delay_ms: Option<u64>) -> Duration {
        let slowest = self.limits.retry_slowest;
        if matches!(status, Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented) {
            return slowest; // nothing that the client could do would mend it
        }
        if let Some(delay_ms) = retry_delay_ms {
            let delay = Duration::from_millis(delay_ms).as_secs_f64() * self.random.uniform(1.0, 1.25);
            return Duration::from_secs_f64(delay.min(slowest.as_secs_f64()));
        }
        let most = self.limits.backoff_base.as_secs_f64() * 2f64.powi(self.attempts.min(30));
        self.attempts = self.attempts.saturating_add(1);
        Duration::from_secs_f64(self.random.uniform(0.0, most.min(self.limits.backoff_max.as_secs_f64())))
    }

    fn finish(&mut self, confirmed: bool) {
        let left = self.buffer.waiting() + self.unacknowledged();
        self.buffer.dropped += left as u64;
        self.dropped_told += left as u64;
        self.answered = false;
        (self.done, self.confirmed) = (true, confirmed);
        self.events.push(Event::Closed { confirmed, left });
    }
}

/// A status by its name on the wire's page.
pub(crate) fn name(status: Code) -> &'static str {
    match status {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
