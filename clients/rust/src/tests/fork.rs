//! A process that forks: who may report, and what is said of it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{
    clients::{app, quick},
    scripted_daemon::{DEADLINE, ScriptedDaemon},
};
use crate::{Client, Event, Stats};

/// Runs this in a child; its exit status.
fn in_a_child(run: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child calls what allocates at most, which glibc allows after a fork, and leaves without unwinding.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(if run() { 0 } else { 1 }),
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                status
            }
        }
    }
}

#[test]
fn in_a_child_of_the_process_that_reports_the_client_takes_nothing_and_says_so_once() {
    let daemon = ScriptedDaemon::started();
    let told = Arc::new(AtomicU32::new(0));
    let count = told.clone();
    let client = Client::builder(&daemon.target())
        .limits(quick())
        .on_event(move |event| {
            if matches!(event, Event::ForkedAfterStart { .. }) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    let session = client.begin(&app());
    let status = in_a_child(|| {
        session.update(1);
        session.end();
        let own = client.begin(&app());
        own.end();
        let is_silent = client.stats() == Stats::default() && !client.blocking_close(DEADLINE);
        is_silent && told.load(Ordering::Relaxed) == 1
    });
    assert_eq!(status, 0);
    session.update(4);
    assert!(client.blocking_close(DEADLINE));
    let seen = daemon.seen();
    assert_eq!(seen.model.ever.values().map(|held| held.requests).collect::<Vec<_>>(), [5]);
    assert_eq!(told.load(Ordering::Relaxed), 0);
}

#[test]
fn a_client_that_has_not_begun_a_session_works_in_a_child() {
    let daemon = ScriptedDaemon::started();
    let client = Client::builder(&daemon.target()).limits(quick()).build().unwrap();
    let status = in_a_child(|| {
        client.begin(&app()).end();
        client.blocking_close(DEADLINE)
    });
    assert_eq!(status, 0);
    client.begin(&app()).end();
    assert!(client.blocking_close(DEADLINE));
    let seen = daemon.seen();
    assert_eq!((seen.model.ever.len(), seen.model.clients.len()), (2, 2));
}
