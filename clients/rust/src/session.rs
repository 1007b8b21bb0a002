//! What does the proxy call on its way? A session's handle, and the reporter behind it that handles, client and shell share.
//!
//! Invariant: nothing here waits for anything but the client's own lock, which is never held over I/O, and nothing fails for
//! what the transport does.

use std::{
    panic::{self, AssertUnwindSafe},
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::Notify;
use tracing::error;
use uuid::Uuid;

use crate::{
    app::App, clock::Clock, core::Core, events::Event, random::Entropy, report::Report, shell, transport::Transport,
};

/// What is called with what happens.
pub(crate) type OnEvent = Box<dyn Fn(&Event) + Send + Sync>;

/// One use of one app by one user, as the proxy holds it.
///
/// It is over when [`end`](Self::end) says so, or when it is dropped, so that no early return and no canceled task keeps an app in
/// use. One that was begun with `report_live: false` is the exception: dropped without an end, it never was.
#[must_use = "a session that is dropped is over"]
pub struct Session {
    pub(crate) reporter: Arc<Reporter>,
    report: Arc<Report>,
    ends_when_dropped: bool,
}

impl Session {
    /// What identifies it, in the database too.
    pub fn session_id(&self) -> Uuid {
        self.report.session_id
    }

    /// The app that is used.
    pub fn app(&self) -> &App {
        &self.report.app
    }

    /// How many requests were counted so far.
    pub fn requests(&self) -> u32 {
        self.report.state().requests
    }

    /// When it began: nanoseconds since the Unix epoch, UTC.
    pub fn started_ns(&self) -> u64 {
        self.report.started_ns
    }

    /// When it ended: nanoseconds since the Unix epoch, UTC; 0 while it is live.
    pub fn ended_ns(&self) -> u64 {
        self.report.state().ended_ns
    }

    /// Counts that many more requests. Does nothing once the session has ended.
    pub fn update(&self, requests: u32) {
        if self.reporter.is_ours() {
            let now_ns = self.reporter.clock.monotonic_ns();
            let mut inside = self.reporter.inside();
            if self.report.count(requests) && inside.core.buffer.changed(&self.report, now_ns) {
                self.reporter.changed.notify_waiters();
            }
        }
    }

    /// Says that it is over, now. Does nothing once the session has ended.
    pub fn end(&self) {
        if self.reporter.is_ours() {
            let now_ns = self.reporter.clock.monotonic_ns();
            let mut inside = self.reporter.inside();
            if self.report.end(now_ns) && inside.core.buffer.ended(&self.report, now_ns) {
                self.reporter.changed.notify_waiters();
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.ends_when_dropped && !self.reporter.is_forked() {
            self.end();
        }
    }
}

/// How a session begins; the default is what [`begin`](crate::Client::begin) does.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Requests so far.
    pub requests: u32,
    /// Whether it is reported before it ends. False is for requests that may turn out to be redirects or 404s: nothing is
    /// reported until the session ends, and nothing at all if it never does.
    pub report_live: bool,
    /// To go on with a session that another process began. `None`: a new one.
    pub session_id: Option<Uuid>,
    /// When it began: nanoseconds since the Unix epoch. `None`: now.
    pub started_ns: Option<u64>,
}

impl Default for Begin {
    fn default() -> Self {
        Self { requests: 1, report_live: true, session_id: None, started_ns: None }
    }
}

/// Everything of a client; handles, client and shell share it.
pub(crate) struct Reporter {
    pub transport: Transport,
    pub clock: Box<dyn Clock>,
    /// Wakes the shell. Notified with the lock held or after it.
    pub changed: Notify,
    on_event: OnEvent,
    inside: Mutex<Inside>,
    /// The process that reports; 0: no session has begun.
    pid: AtomicU32,
    fork_told: AtomicBool,
}

/// What the client's lock guards, and every report with it.
pub(crate) struct Inside {
    pub core: Core,
    pub session_ids: Entropy,
    /// When `close` gives up; `None`: it was not called.
    pub close_by: Option<Instant>,
    /// The shell's thread, until somebody joins it.
    pub thread: Option<JoinHandle<()>>,
    /// Whether it is there.
    pub is_running: bool,
}

impl Reporter {
    pub fn new(transport: Transport, core: Core, on_event: OnEvent, clock: Box<dyn Clock>) -> Self {
        let session_ids = Entropy::new();
        let inside = Inside { core, session_ids, close_by: None, thread: None, is_running: false };
        Self {
            transport,
            clock,
            changed: Notify::new(),
            on_event,
            inside: Mutex::new(inside),
            pid: AtomicU32::new(0),
            fork_told: AtomicBool::new(false),
        }
    }

    pub fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; `options` were checked.
    pub fn begin(self: &Arc<Self>, app: &App, options: &Begin) -> Session {
        let (monotonic_ns, wall_ns) = (self.clock.monotonic_ns(), self.clock.wall_ns());
        let started_ns = options.started_ns.unwrap_or(wall_ns);
        let passed_ns = wall_ns.saturating_sub(started_ns);
        let origin_ns = monotonic_ns.cast_signed().saturating_sub_unsigned(passed_ns);
        let make = |ids: &mut Entropy| {
            let session_id = options.session_id.unwrap_or_else(|| ids.session_id());
            Arc::new(Report::new(app.clone(), session_id, started_ns, origin_ns, options.requests))
        };
        let report = if self.is_ours() {
            let mut inside = self.inside();
            let report = make(&mut inside.session_ids);
            if options.report_live && inside.core.buffer.begin(&report, monotonic_ns) {
                self.changed.notify_waiters();
            }
            report
        } else {
            make(&mut Entropy::new())
        };
        Session { reporter: self.clone(), report, ends_when_dropped: options.report_live }
    }

    /// Whether this process is the one that reports: the first one that begins a session.
    fn is_ours(self: &Arc<Self>) -> bool {
        let own = process::id();
        match self.pid.load(Ordering::Acquire) {
            pid if pid == own => true,
            0 => {
                let mut inside = self.inside();
                if self.pid.load(Ordering::Acquire) == 0 {
                    shell::start(self, &mut inside);
                    self.pid.store(own, Ordering::Release);
                }
                true
            }
            parent_pid => {
                if !self.fork_told.swap(true, Ordering::Relaxed) {
                    self.tell(&Event::ForkedAfterStart { parent_pid });
                }
                false
            }
        }
    }

    /// Whether this is a child of the process that reports. Its lock may be held here for ever by a thread that did not come
    /// along, and nobody else is here, so whoever finds this true leaves it alone.
    pub fn is_forked(&self) -> bool {
        !matches!(self.pid.load(Ordering::Acquire), pid if pid == 0 || pid == process::id())
    }

    /// Hands what happened to `on_event`; by the shell, without the lock.
    pub fn tell_events(&self) {
        let happened = self.inside().core.take_events();
        for event in &happened {
            self.tell(event);
        }
    }

    fn tell(&self, event: &Event) {
        // The proxy's own code: its mistakes must not cost reports.
        if panic::catch_unwind(AssertUnwindSafe(|| (self.on_event)(event))).is_err() {
            error!("on_event failed for {event:?}");
        }
    }
}
