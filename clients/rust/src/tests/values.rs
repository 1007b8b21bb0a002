//! What a proxy passes: what is taken, and what is refused with what words.

use std::time::Duration;

use uuid::{Uuid, Version};

use crate::{
    AccessMethod, App, Begin, Client, Limits,
    random::Entropy,
    report::{MAX_REQUESTS, Report},
};

fn app() -> App {
    App::new([1; 16], [2; 16], [3; 16], AccessMethod::Path, "code").unwrap()
}

#[test]
fn an_id_is_a_uuid_or_16_bytes_or_text() {
    let id = Uuid::from_u128(7);
    let made = App::new(id, *id.as_bytes(), id.to_string().as_str(), AccessMethod::Path, "code").unwrap();
    let others =
        App::new(&id.as_bytes()[..], id, id.simple().to_string().as_str(), AccessMethod::Path, "code").unwrap();
    assert_eq!(made, others);
    assert_eq!((made.user_id(), made.workspace_id(), made.agent_id()), (id, id, id));
}

#[test]
fn an_id_that_is_none_or_nil_is_an_error_that_names_it() {
    let good = [1; 16];
    let told = |made: Result<App, crate::Invalid>| made.unwrap_err().to_string();
    assert!(told(App::new("me", good, good, AccessMethod::Path, "code")).starts_with("user_id is \"me\""));
    assert!(told(App::new(good, Uuid::nil(), good, AccessMethod::Path, "code")).starts_with("workspace_id is 0000"));
    assert!(told(App::new(good, good, &[1, 2][..], AccessMethod::Path, "code")).starts_with("agent_id is [1, 2]"));
}

#[test]
fn a_slug_has_1_to_256_characters_without_nul_and_may_be_empty_only_for_a_terminal() {
    let make = |method, slug: &str| App::new([1; 16], [2; 16], [3; 16], method, slug).is_ok();
    assert!(make(AccessMethod::Subdomain, &"\u{1f600}".repeat(256)));
    assert!(make(AccessMethod::Terminal, ""));
    for slug in ["", "a\0b", &"a".repeat(257)] {
        assert!(!make(AccessMethod::Path, slug), "{slug:?}");
    }
}

#[test]
fn limits_that_the_daemon_would_not_take_or_that_make_no_sense_are_refused_by_name() {
    let told = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        Client::builder("unix:/none").limits(limits).build().map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(told(|limits| limits.linger = Duration::ZERO), Ok(()));
    assert!(told(|limits| limits.batch_max_reports = 10_001).unwrap_err().starts_with("batch_max_reports is 10001"));
    assert!(told(|limits| limits.batch_max_bytes = (4 << 20) + 1).unwrap_err().starts_with("batch_max_bytes"));
    assert!(told(|limits| limits.window_batches = 0).unwrap_err().starts_with("window_batches is 0"));
    assert!(told(|limits| limits.backoff_base = Duration::ZERO).unwrap_err().starts_with("backoff_base is 0ns"));
    assert!(told(|limits| limits.retry_slowest = Duration::MAX).unwrap_err().starts_with("retry_slowest"));
}

#[test]
fn what_cannot_be_gone_on_with_is_refused() {
    let client = Client::new("unix:/none").unwrap();
    let begin = |options| client.begin_with(&app(), options).map(|_| ()).map_err(|error| error.to_string());
    let nil = Begin { session_id: Some(Uuid::nil()), ..Begin::default() };
    assert!(begin(nil).unwrap_err().starts_with("session_id is 0000"));
    for started_ns in [0, 1 << 63] {
        let told = begin(Begin { started_ns: Some(started_ns), ..Begin::default() }).unwrap_err();
        assert!(told.starts_with(&format!("started_ns is {started_ns}")));
    }
}

#[test]
fn a_count_stays_where_the_database_has_no_more_room() {
    let report = Report::new(app(), Uuid::from_u128(1), 1, 0, MAX_REQUESTS - 1);
    assert!(report.count(5) && report.count(u32::MAX));
    assert_eq!(report.state().requests, i32::MAX as u32);
    assert_eq!(Report::new(app(), Uuid::from_u128(1), 1, 0, u32::MAX).state().requests, i32::MAX as u32);
}

#[test]
fn an_end_is_the_start_plus_what_has_passed_and_is_set_once() {
    let report = Report::new(app(), Uuid::from_u128(1), 1_000, -500, 1);
    assert!(report.end(100) && !report.end(900) && !report.count(1));
    assert_eq!(report.state().ended_ns, 1_600);
    assert_eq!(report.state().requests, 1);
    let ahead = Report::new(app(), Uuid::from_u128(1), 1_000, 5_000, 1);
    assert!(ahead.end(100));
    assert_eq!(ahead.state().ended_ns, 1_000);
}

#[test]
fn random_ids_are_of_version_4_and_never_the_same() {
    let mut entropy = Entropy::new();
    let mut ids: Vec<Uuid> = (0..1000).map(|_| entropy.session_id()).collect();
    assert!(ids.iter().all(|id| id.get_version() == Some(Version::Random)));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
    assert_eq!(entropy.client_id().len(), 32);
    assert!((0..1000).all(|_| (0.0..1.0).contains(&entropy.fraction())));
}
