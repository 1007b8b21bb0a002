//! What does a proxy make one of? The client: how it is made, begins sessions, and closes.
//!
//! Invariant: no lock is held over I/O; the client's thread ends when the core is done, and closing joins it.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    app::{App, valid_id},
    clock::{Clock, SystemClock},
    core::{Core, Random, Stats},
    events::{Event, log_event},
    invalid::Invalid,
    limits::{CLOSE_TIMEOUT, Limits},
    random::Entropy,
    session::{Begin, OnEvent, Reporter, Session},
    transport::{Tls, Transport},
};

const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reports sessions, from any thread and on any runtime or none. One for each process, shared by reference or `Arc`.
///
/// It has a thread of its own, which starts when the first session begins. Dropped without having been closed, it closes by itself
/// within [`CLOSE_TIMEOUT`], and nobody hears how that went.
pub struct Client(Arc<Reporter>);

/// What a [`Client`] is made of, beside its target.
#[must_use = "a builder makes nothing before `build`"]
pub struct ClientBuilder {
    target: String,
    tls: Option<Tls>,
    limits: Limits,
    on_event: OnEvent,
    clock: Box<dyn Clock>,
}

impl ClientBuilder {
    /// Mutual TLS; for `HOST:PORT` only.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Other bounds and times than the default ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What is called with what happens, on the client's thread; without it, `tracing` is told.
    pub fn on_event(mut self, on_event: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Box::new(on_event);
        self
    }

    /// Other clocks than those of the machine.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Makes the client, which neither connects nor starts anything yet.
    ///
    /// # Errors
    /// Where the target is neither `unix:PATH` nor `HOST:PORT` or has TLS on a unix socket, a limit is out of range, or the
    /// PEM cannot be read.
    pub fn build(self) -> Result<Client, Invalid> {
        let limits = self.limits.checked()?;
        let transport = Transport::new(&self.target, self.tls.as_ref(), &limits)?;
        let core = Core::new(limits, Box::new(Entropy::new()));
        Ok(Client(Arc::new(Reporter::new(transport, core, self.on_event, self.clock))))
    }
}

impl Random for Entropy {
    fn client_id(&mut self) -> String {
        Entropy::client_id(self)
    }

    fn uniform(&mut self, least: f64, most: f64) -> f64 {
        least + self.fraction() * (most - least)
    }
}

impl Client {
    /// A client of the daemon at `target`, `unix:PATH` or `HOST:PORT`, with defaults for all else.
    ///
    /// # Errors
    /// Where `target` is neither.
    pub fn new(target: &str) -> Result<Self, Invalid> {
        Self::builder(target).build()
    }

    /// A client that is made with other settings.
    pub fn builder(target: &str) -> ClientBuilder {
        ClientBuilder {
            target: target.to_owned(),
            tls: None,
            limits: Limits::default(),
            on_event: Box::new(log_event),
            clock: Box::new(SystemClock),
        }
    }

    /// Begins a session of this app, now, with a new session id and one request.
    pub fn begin(&self, app: &App) -> Session {
        self.0.begin(app, &Begin::default())
    }

    /// Begins a session otherwise; see [`Begin`].
    ///
    /// # Errors
    /// Where `session_id` is nil or `started_ns` cannot be.
    pub fn begin_with(&self, app: &App, options: Begin) -> Result<Session, Invalid> {
        if let Some(session_id) = options.session_id {
            valid_id("session_id", session_id)?;
        }
        if let Some(started_ns) = options.started_ns
            && !(1..1 << 63).contains(&started_ns)
        {
            let what = "it has to be nanoseconds since the Unix epoch";
            return Err(Invalid(format!("started_ns is {started_ns}; {what}")));
        }
        Ok(self.0.begin(app, &options))
    }

    /// What the client holds and has done so far. In a child of the process that reports: nothing.
    pub fn stats(&self) -> Stats {
        if self.0.is_forked() { Stats::default() } else { self.0.inside().core.stats() }
    }

    /// Ends what is left and sends it; true when the daemon has confirmed everything within `timeout`.
    pub async fn close(&self, timeout: Duration) -> bool {
        if !self.begin_to_close(timeout) {
            return false;
        }
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.0.inside().is_running {
                break;
            }
            changed.await;
        }
        self.joined()
    }

    /// The same as [`close`](Self::close) for threads: it blocks the one that it is called on. Not to be called by `on_event`,
    /// which runs on the thread that this waits for.
    pub fn blocking_close(&self, timeout: Duration) -> bool {
        self.begin_to_close(timeout) && self.joined()
    }

    /// False: this is a child of the process that reports.
    fn begin_to_close(&self, timeout: Duration) -> bool {
        if self.0.is_forked() {
            return false;
        }
        let mut inside = self.0.inside();
        inside.core.close(self.0.clock.monotonic_ns());
        inside.close_by.get_or_insert_with(|| Instant::now() + timeout.min(LONGEST_TIMEOUT));
        self.0.changed.notify_waiters();
        true
    }

    fn joined(&self) -> bool {
        let thread = self.0.inside().thread.take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        self.0.tell_events();
        self.0.inside().core.confirmed
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.begin_to_close(CLOSE_TIMEOUT);
    }
}
