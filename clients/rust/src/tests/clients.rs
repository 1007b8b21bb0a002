//! The client over real sockets, against a daemon that does as it is told.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use tonic::Code;
use uuid::Uuid;

use super::scripted_daemon::{At, DEADLINE, Refuse, ScriptedDaemon, Seen};
use crate::{
    AccessMethod, App, Begin, Client, Clock, Event, Limits, Rejection, Session, SystemClock,
    wire::{RejectedReport, RejectionReason},
};

pub fn app() -> App {
    App::new([1; 16], [2; 16], [3; 16], AccessMethod::Subdomain, "code").unwrap()
}

/// Limits that make a test short.
pub fn quick() -> Limits {
    Limits {
        linger: Duration::from_millis(1),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(10),
        retry_slowest: Duration::from_millis(20),
        refused_retry: Duration::from_millis(10),
        ..Limits::default()
    }
}

/// A proxy with a client.
struct Proxy {
    client: Client,
    told: mpsc::Receiver<Event>,
    sessions: Vec<Session>,
}

impl Proxy {
    fn of(target: &str) -> Self {
        Self::with(target, quick())
    }

    fn with(target: &str, limits: Limits) -> Self {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let on_event = move |event: &Event| drop(tell.lock().unwrap().send(event.clone()));
        let client = Client::builder(target).limits(limits).on_event(on_event).build().unwrap();
        Self { client, told, sessions: Vec::new() }
    }

    fn begin(&mut self, count: usize) {
        let app = app();
        self.sessions.extend((0..count).map(|_| self.client.begin(&app)));
    }

    fn begin_unheard(&mut self, count: usize) {
        let unheard = Begin { report_live: false, ..Begin::default() };
        let app = app();
        self.sessions.extend((0..count).map(|_| self.client.begin_with(&app, unheard.clone()).unwrap()));
    }

    fn end(&self) {
        self.sessions.iter().for_each(Session::end);
    }

    fn wait_for(&self, is_it: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.told.recv_timeout(DEADLINE).expect("it is not told");
            if is_it(&event) {
                return event;
            }
        }
    }

    /// Whether the daemon knows every session as it is, and no other.
    fn is_known(&self) -> impl Fn(&Seen) -> bool + '_ {
        |seen| {
            let wanted: BTreeMap<Uuid, _> = self
                .sessions
                .iter()
                .map(|session| (session.session_id(), (session.started_ns(), session.ended_ns(), session.requests())))
                .collect();
            let held = &seen.model.sessions;
            held.iter().map(|(id, held)| (*id, (held.started_ns, held.ended_ns, held.requests))).eq(wanted)
        }
    }
}

#[test]
fn a_session_is_live_at_the_daemon_until_it_ends() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(1);
    daemon.wait_for(proxy.is_known());
    proxy.sessions[0].update(3);
    daemon.wait_for(proxy.is_known());
    proxy.end();
    daemon.wait_for(proxy.is_known());
    let seen = daemon.seen();
    let held = &seen.model.sessions[&proxy.sessions[0].session_id()];
    assert!(held.ended_ns >= held.started_ns);
    assert_eq!((held.requests, held.app.3, held.app.4.as_str()), (4, 2, "code"));
}

#[test]
fn a_session_that_is_dropped_is_over_and_one_not_reported_live_never_was() {
    let daemon = ScriptedDaemon::started();
    let client = Client::builder(&daemon.target()).limits(quick()).build().unwrap();
    drop(client.begin_with(&app(), Begin { report_live: false, ..Begin::default() }).unwrap());
    let session_id = client.begin(&app()).session_id();
    daemon.wait_for(|seen| seen.model.sessions.get(&session_id).is_some_and(|held| held.ended_ns != 0));
    assert!(client.blocking_close(DEADLINE));
    assert_eq!(daemon.seen().model.ever.len(), 1);
}

#[test]
fn a_session_that_another_process_began_goes_on() {
    let daemon = ScriptedDaemon::started();
    let client = Client::builder(&daemon.target()).limits(quick()).build().unwrap();
    let started_ns = SystemClock.wall_ns() - 3_600_000_000_000;
    let session_id = Uuid::from_u128(42);
    let options = Begin { requests: 7, session_id: Some(session_id), started_ns: Some(started_ns), ..Begin::default() };
    client.begin_with(&app(), options).unwrap().end();
    assert!(client.blocking_close(DEADLINE));
    let held = daemon.seen().model.ever[&session_id].clone();
    assert_eq!((held.started_ns, held.requests), (started_ns, 7));
    assert!(held.ended_ns - started_ns >= 3_600_000_000_000);
}

#[test]
fn a_client_says_who_it_is_and_chooses_a_random_id() {
    let daemon = ScriptedDaemon::started();
    let mut proxies = [Proxy::of(&daemon.target()), Proxy::of(&daemon.target())];
    for proxy in &mut proxies {
        proxy.begin(1);
    }
    daemon.wait_for(|seen| seen.model.clients.len() == 2);
    let seen = daemon.seen();
    assert_eq!(seen.clients, ["rust/0.1.0", "rust/0.1.0"]);
    assert!(seen.model.clients.keys().all(|id| id.len() == 32 && u128::from_str_radix(id, 16).is_ok()));
}

#[test]
fn many_reports_go_as_few_batches_and_arrive() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::with(&daemon.target(), Limits { linger: Duration::from_millis(200), ..quick() });
    proxy.begin(5000);
    proxy.end();
    assert!(proxy.client.blocking_close(DEADLINE));
    let seen = daemon.seen();
    assert!(proxy.is_known()(&seen));
    assert!(seen.model.applied.len() < 100);
}

#[test]
fn an_acknowledgement_that_was_lost_costs_a_resend_and_counts_nothing_twice() {
    let daemon = ScriptedDaemon::started();
    daemon.seen().script.push_back(Refuse { apply: true, ..Refuse::with(Code::Unavailable, At::Batch) });
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin_unheard(3);
    proxy.end();
    daemon.wait_for(proxy.is_known());
    assert!(proxy.client.blocking_close(DEADLINE));
    let seen = daemon.seen();
    let mut applied = seen.model.applied.clone();
    applied.dedup();
    assert_eq!(applied, seen.model.applied);
    assert_eq!(seen.model.clients.len(), 1);
}

#[test]
fn live_sessions_survive_every_status_wherever_it_meets_the_stream() {
    for at in [At::First, At::Batch, At::Closing] {
        for (status, name) in [
            (Code::InvalidArgument, "INVALID_ARGUMENT"),
            (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
            (Code::AlreadyExists, "ALREADY_EXISTS"),
            (Code::Aborted, "ABORTED"),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            (Code::PermissionDenied, "PERMISSION_DENIED"),
            (Code::Unavailable, "UNAVAILABLE"),
            (Code::Internal, "INTERNAL"),
        ] {
            let daemon = ScriptedDaemon::started();
            daemon.seen().script.push_back(Refuse::with(status, at));
            let mut proxy = Proxy::of(&daemon.target());
            proxy.begin(5);
            if at != At::Closing {
                daemon.wait_for(|seen| seen.refused == 1);
                daemon.wait_for(proxy.is_known());
                let told = proxy.wait_for(|event| matches!(event, Event::Disconnected { .. }));
                let Event::Disconnected { status, details, attempt, .. } = told else { unreachable!() };
                assert_eq!((status, details.as_str(), attempt), (name, "as the script says", 1));
            }
            assert!(proxy.client.blocking_close(DEADLINE), "{at:?} {name}");
            let seen = daemon.seen();
            assert!(proxy.is_known()(&seen), "{at:?} {name}");
            assert!(proxy.sessions.iter().all(|session| session.ended_ns() > 0));
            assert_eq!((seen.refused, proxy.client.stats().dropped_reports), (1, 0));
        }
    }
}

#[test]
fn the_daemon_says_when_to_come_back() {
    let daemon = ScriptedDaemon::started();
    daemon.seen().script.push_back(Refuse { retry_delay_ms: Some(8), ..Refuse::with(Code::Unavailable, At::First) });
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(1);
    let told = proxy.wait_for(|event| matches!(event, Event::Disconnected { .. }));
    let Event::Disconnected { retry_in, .. } = told else { unreachable!() };
    assert!((Duration::from_millis(8)..=Duration::from_millis(10)).contains(&retry_in), "{retry_in:?}");
}

#[test]
fn rejected_reports_are_told_and_counted() {
    let daemon = ScriptedDaemon::started();
    let reason = RejectionReason::Conflict as i32;
    daemon.seen().rejections.push(RejectedReport { sequence: 1, index: 0, reason, message: "why".into() });
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(1);
    let session_id = proxy.sessions[0].session_id();
    let rejection = Rejection { session_id, reason: "REJECTION_REASON_CONFLICT".into(), message: "why".into() };
    let told = proxy.wait_for(|event| matches!(event, Event::Rejected { .. }));
    assert_eq!(told, Event::Rejected { rejections: vec![rejection] });
    assert_eq!(proxy.client.stats().rejected_reports, 1);
}

#[test]
fn a_daemon_that_acknowledges_what_was_never_sent_means_a_new_client_id() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(1);
    daemon.wait_for(proxy.is_known());
    let old_id = proxy.client.stats().client_id;
    {
        let mut seen = daemon.seen();
        seen.model.clients.get_mut(&old_id).unwrap().last += 5;
        seen.script.push_back(Refuse::with(Code::Unavailable, At::Batch));
    }
    proxy.begin(1);
    let told = proxy.wait_for(|event| matches!(event, Event::ClientIdReplaced { .. }));
    let Event::ClientIdReplaced { old, status, .. } = told else { unreachable!() };
    assert_eq!((old, status), (old_id, "ALREADY_EXISTS"));
    daemon.wait_for(proxy.is_known());
}

#[test]
fn reports_wait_for_a_daemon_that_is_not_there_yet() {
    let mut daemon = ScriptedDaemon::new();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(3);
    for _ in 0..2 {
        let told = proxy.wait_for(|event| matches!(event, Event::Disconnected { .. }));
        assert!(matches!(told, Event::Disconnected { status: "UNAVAILABLE", .. }));
    }
    daemon.start();
    daemon.wait_for(proxy.is_known());
    let told = proxy.wait_for(|event| matches!(event, Event::Connected { .. }));
    assert!(matches!(told, Event::Connected { acked_sequence: 0, .. }));
    assert!(proxy.client.blocking_close(DEADLINE));
}

#[test]
fn a_daemon_that_forgot_everything_knows_live_sessions_again() {
    let mut daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(3);
    daemon.wait_for(proxy.is_known());
    daemon.stop();
    let told = proxy.wait_for(|event| matches!(event, Event::Disconnected { .. }));
    assert!(matches!(told, Event::Disconnected { status: "UNAVAILABLE", .. }), "{told:?}");
    daemon.seen().model.forget();
    daemon.start();
    daemon.wait_for(proxy.is_known());
    proxy.end();
    daemon.wait_for(proxy.is_known());
}

#[test]
fn a_slow_daemon_holds_up_no_session() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::with(&daemon.target(), Limits { batch_max_reports: 2, window_batches: 2, ..quick() });
    daemon.hold_answers();
    proxy.begin(100);
    daemon.wait_for(|seen| !seen.messages.is_empty());
    proxy.end();
    proxy.begin_unheard(100);
    proxy.end();
    daemon.release_answers();
    daemon.wait_for(proxy.is_known());
}

#[test]
fn closing_ends_what_is_left_and_waits_for_the_confirmation() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(3);
    assert!(proxy.client.blocking_close(DEADLINE));
    {
        let seen = daemon.seen();
        assert!(proxy.is_known()(&seen));
        assert!(seen.messages.last().unwrap().closing);
        assert!(seen.model.closed.iter().eq(seen.model.clients.keys()));
    }
    let told = proxy.wait_for(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(told, Event::Closed { confirmed: true, left: 0 });
    assert!(!proxy.client.stats().connected);
    assert!(proxy.client.blocking_close(DEADLINE));
    proxy.begin(1);
    assert_eq!(proxy.client.stats().live_sessions, 0);
}

#[test]
fn closing_with_a_daemon_that_is_away_ends_at_the_deadline() {
    let mut proxy = Proxy::of("unix:/nonexistent/appstatsd.sock");
    proxy.begin(3);
    assert!(!proxy.client.blocking_close(Duration::from_millis(50)));
    let told = proxy.wait_for(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(told, Event::Closed { confirmed: false, left: 3 });
    assert_eq!(proxy.client.stats().dropped_reports, 3);
}

#[test]
fn closing_with_a_daemon_that_is_stuck_ends_at_the_deadline() {
    let daemon = ScriptedDaemon::started();
    daemon.hold_answers();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(3);
    daemon.wait_for(|seen| !seen.messages.is_empty());
    assert!(!proxy.client.blocking_close(Duration::from_millis(50)));
    let told = proxy.wait_for(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(told, Event::Closed { confirmed: false, left: 3 });
}

#[test]
fn a_client_that_never_reported_closes_at_once_and_never_connects() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    assert!(proxy.client.blocking_close(Duration::ZERO));
    proxy.begin(1);
    assert!(daemon.seen().messages.is_empty());
}

#[test]
fn a_client_that_has_sent_nothing_closes_at_once_though_it_is_connected() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin_unheard(1);
    proxy.wait_for(|event| matches!(event, Event::Connected { .. }));
    assert!(proxy.client.blocking_close(DEADLINE));
    assert_eq!(daemon.seen().messages.len(), 1);
}

#[test]
fn a_client_that_is_dropped_closes_by_itself() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(3);
    drop(proxy);
    daemon.wait_for(|seen| seen.model.closed.len() == 1);
    assert!(daemon.seen().model.ever.values().all(|held| held.ended_ns > 0));
}

/// Whoever awaits here has a thread and no runtime.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn closing_can_be_awaited_on_any_runtime() {
    let daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(3);
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut closing = pin!(proxy.client.close(DEADLINE));
    let confirmed = loop {
        match closing.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(confirmed) => break confirmed,
            Poll::Pending => thread::park(),
        }
    };
    assert!(confirmed);
    assert!(proxy.is_known()(&daemon.seen()));
}

#[test]
fn a_hook_that_panics_costs_no_report() {
    let daemon = ScriptedDaemon::started();
    let client =
        Client::builder(&daemon.target()).limits(quick()).on_event(|_| panic!("the proxy's own mistake")).build();
    let client = client.unwrap();
    let _session = client.begin(&app());
    assert!(client.blocking_close(DEADLINE));
    assert_eq!(daemon.seen().model.closed.len(), 1);
}

/// Fails once on the client's own thread, when it is told to.
struct FailingClock(Arc<AtomicBool>);

impl Clock for FailingClock {
    fn wall_ns(&self) -> u64 {
        SystemClock.wall_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        let is_shell = thread::current().name() == Some("appstatsd-client");
        assert!(!(is_shell && self.0.swap(false, Ordering::Relaxed)), "a mistake");
        SystemClock.monotonic_ns()
    }
}

#[test]
fn a_mistake_of_the_clients_own_costs_a_stream_and_no_report() {
    let daemon = ScriptedDaemon::started();
    let fails = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let client = Client::builder(&daemon.target())
        .limits(quick())
        .clock(FailingClock(fails.clone()))
        .on_event(move |event| drop(tell.lock().unwrap().send(event.clone())))
        .build()
        .unwrap();
    let first = client.begin(&app());
    assert!(matches!(told.recv_timeout(DEADLINE), Ok(Event::Connected { .. })));
    fails.store(true, Ordering::Relaxed);
    let second = client.begin(&app());
    let lost = told.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(lost, Event::Disconnected { status: "UNKNOWN", .. }), "{lost:?}");
    daemon.wait_for(|seen| {
        [&first, &second].iter().all(|session| seen.model.sessions.contains_key(&session.session_id()))
    });
    assert!(client.blocking_close(DEADLINE));
}

#[test]
fn a_hundred_reconnects_leave_nothing_behind() {
    let mut daemon = ScriptedDaemon::started();
    let mut proxy = Proxy::of(&daemon.target());
    proxy.begin(1);
    daemon.wait_for(proxy.is_known());
    daemon.seen().script.extend(vec![Refuse::with(Code::Unavailable, At::Batch); 100]);
    daemon.stop();
    daemon.start();
    daemon.wait_for(|seen| seen.script.is_empty());
    daemon.wait_for(proxy.is_known());
    assert!(proxy.client.blocking_close(DEADLINE));
    assert_eq!(Arc::strong_count(&proxy.sessions[0].reporter), 2, "the client and one session, and no thread");
}

#[test]
fn sessions_of_many_threads_all_arrive() {
    let daemon = ScriptedDaemon::started();
    let client = Client::builder(&daemon.target()).limits(quick()).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let app = app();
                for _ in 0..500 {
                    client.begin(&app).update(1);
                }
            });
        }
    });
    assert!(client.blocking_close(DEADLINE));
    let seen = daemon.seen();
    assert_eq!(seen.model.ever.len(), 4000);
    assert!(seen.model.ever.values().all(|held| held.requests == 2 && held.ended_ns > 0));
}
