//! The core against the protocol page, rule by rule, with a clock that the test moves.

use std::sync::{Arc, Mutex};

use prost::Message;
use tonic::Code;
use uuid::Uuid;

use super::model_daemon::{Held, ModelDaemon, rows};
use crate::{
    AccessMethod, App, Event, Limits, Rejection,
    core::{Core, Ending, Random},
    report::Report,
    wire::{RejectedReport, RejectionReason, StreamReportsRequest, StreamReportsResponse},
};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn app_of(agent: u128, slug: &str) -> App {
    App::new(Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(agent), AccessMethod::Path, slug).unwrap()
}

/// Client ids by number, and the longest wait of those possible.
#[derive(Clone, Default)]
struct Most {
    ids: u64,
    drawn: Arc<Mutex<Vec<(f64, f64)>>>,
}

impl Random for Most {
    fn client_id(&mut self) -> String {
        self.ids += 1;
        format!("client-{}", self.ids)
    }

    fn uniform(&mut self, least: f64, most: f64) -> f64 {
        self.drawn.lock().unwrap().push((least, most));
        most
    }
}

/// A core, a model daemon and one stream between them; nothing moves but by the test.
struct Wire {
    now: u64,
    drawn: Arc<Mutex<Vec<(f64, f64)>>>,
    daemon: ModelDaemon,
    core: Core,
    client_id: String,
    told: Vec<Event>,
}

impl Wire {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl Fn(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let random = Most::default();
        Self {
            now: 5 * SECOND,
            drawn: random.drawn.clone(),
            daemon: ModelDaemon::default(),
            core: Core::new(limits.checked().unwrap(), Box::new(random)),
            client_id: String::new(),
            told: Vec::new(),
        }
    }

    fn report(&self, number: u64, app: App) -> Arc<Report> {
        let session_id = Uuid::from_u128(number.into());
        Arc::new(Report::new(app, session_id, START + self.now, self.now as i64, 1))
    }

    fn begin_of(&mut self, number: u64, app: App) -> Arc<Report> {
        let report = self.report(number, app);
        self.core.buffer.begin(&report, self.now);
        report
    }

    fn begin(&mut self, number: u64) -> Arc<Report> {
        self.begin_of(number, app_of(3, "code"))
    }

    fn begin_many(&mut self, first: u64, count: u64) -> Vec<Arc<Report>> {
        let app = app_of(3, "code");
        (first..first + count).map(|number| self.begin_of(number, app.clone())).collect()
    }

    fn end(&mut self, report: &Arc<Report>) {
        assert!(report.end(self.now));
        self.core.buffer.ended(report, self.now);
    }

    fn end_all(&mut self, reports: &[Arc<Report>]) {
        for report in reports {
            self.end(report);
        }
    }

    fn count(&mut self, report: &Arc<Report>, requests: u32) {
        assert!(report.count(requests));
        self.core.buffer.changed(report, self.now);
    }

    /// Sessions that are reported only when they end.
    fn end_unheard(&mut self, first: u64, count: u64) {
        for number in first..first + count {
            let report = self.report(number, app_of(3, "code"));
            self.end(&report);
        }
    }

    /// Opens a stream and answers its first message.
    fn open(&mut self) -> StreamReportsRequest {
        let first = self.core.opened(self.now);
        assert!(self.sent().is_none(), "something was sent before the answer");
        self.client_id = first.client_id.clone();
        let held = self.daemon.first(&first);
        assert!(self.ack(held));
        first
    }

    fn ack(&mut self, acked_sequence: u64) -> bool {
        self.core.answered(StreamReportsResponse { acked_sequence, rejected: vec![] }, self.now)
    }

    /// The next message, which the daemon does not get.
    fn sent(&mut self) -> Option<StreamReportsRequest> {
        self.core.next_message(self.now)
    }

    /// The number of the next message, and the sessions in it.
    fn sent_ids(&mut self) -> Option<(u64, Vec<u128>)> {
        self.sent().map(|message| (message.sequence, ids(&message)))
    }

    /// The daemon gets a batch and acknowledges it.
    fn take(&mut self, message: &StreamReportsRequest) {
        let held = self.daemon.batch(&self.client_id, message);
        assert!(self.ack(held));
    }

    /// All that may be sent now is applied but not acknowledged. Returns how many batches.
    fn deliver(&mut self) -> usize {
        let mut count = 0;
        while let Some(message) = self.sent() {
            self.daemon.batch(&self.client_id, &message);
            count += 1;
        }
        count
    }

    /// Sends, applies and acknowledges until nothing is left to send.
    fn settle(&mut self) {
        while let Some(message) = self.sent() {
            if message.closing {
                self.daemon.close(&self.client_id, &message);
                self.lose(Code::Ok);
                return;
            }
            self.take(&message);
        }
    }

    /// Ends the stream; returns how many seconds the next attempt is away.
    fn lose(&mut self, status: Code) -> f64 {
        self.lose_with_delay(status, None)
    }

    fn lose_with_delay(&mut self, status: Code, retry_delay_ms: Option<u64>) -> f64 {
        self.core.ended(Ending { status, details: "because".into(), retry_delay_ms }, self.now);
        (self.core.connect_at_ns - self.now.min(self.core.connect_at_ns)) as f64 / SECOND as f64
    }

    fn linger(&mut self) {
        self.now += SECOND;
    }

    /// What happened so far and is of this kind.
    fn events(&mut self, is_of_kind: impl Fn(&Event) -> bool) -> Vec<Event> {
        self.told.extend(self.core.take_events());
        self.told.iter().filter(|event| is_of_kind(event)).cloned().collect()
    }

    fn held(&self, report: &Report) -> &Held {
        &self.daemon.ever[&report.session_id]
    }

    /// The daemon knows the session as it is.
    fn is_known(&self, report: &Report) -> bool {
        let (held, state) = (self.held(report), report.state());
        (held.ended_ns, held.requests) == (state.ended_ns, state.requests)
    }
}

fn ids(message: &StreamReportsRequest) -> Vec<u128> {
    rows(message.columns.as_ref().unwrap()).iter().map(|(session_id, _)| session_id.as_u128()).collect()
}

// --- batches ---

#[test]
fn the_first_message_names_the_client_and_nothing_else_goes_out_before_its_answer() {
    let mut wire = Wire::new();
    wire.begin_many(1, 1000);
    let first = wire.open();
    assert_eq!((first.client_id.as_str(), first.sequence, first.closing), ("client-1", 0, false));
    assert_eq!(ids(&wire.sent().unwrap()).len(), 1000);
}

#[test]
fn a_session_that_begins_and_ends_within_the_linger_is_one_report() {
    let mut wire = Wire::new();
    wire.open();
    let report = wire.begin(1);
    wire.now += SECOND / 2;
    wire.count(&report, 2);
    wire.end(&report);
    assert_eq!(wire.sent_ids(), None);
    wire.linger();
    let message = wire.sent().unwrap();
    let (session_id, held) = rows(&message.columns.unwrap()).remove(0);
    let app = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3), 1, "code".to_owned());
    let (started_ns, ended_ns) = (report.started_ns, report.started_ns + SECOND / 2);
    assert_eq!((session_id, held), (report.session_id, Held { app, started_ns, ended_ns, requests: 3 }));
}

#[test]
fn a_report_waits_for_the_linger_and_the_shell_is_told_until_when() {
    let mut wire = Wire::new();
    wire.open();
    assert_eq!(wire.core.look_again_at_ns(), None);
    wire.begin(1);
    wire.now += SECOND - 1;
    assert_eq!(wire.sent_ids(), None);
    assert_eq!(wire.core.look_again_at_ns(), Some(wire.now + 1));
    wire.now += 1;
    assert_eq!(wire.sent_ids(), Some((1, vec![1])));
}

#[test]
fn a_full_batch_does_not_wait_and_what_is_left_over_does() {
    let mut wire = Wire::new();
    wire.open();
    wire.begin_many(1, 1001);
    assert_eq!(ids(&wire.sent().unwrap()).len(), 1000);
    assert_eq!(wire.sent_ids(), None);
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((2, vec![1001])));
}

#[test]
fn the_shell_is_woken_by_the_first_report_and_by_the_one_that_fills_a_batch_and_by_no_other() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 3);
    let mut reports = Vec::new();
    let mut woken = Vec::new();
    for number in 1..=5 {
        let report = wire.report(number, app_of(3, "code"));
        woken.push(wire.core.buffer.begin(&report, wire.now));
        reports.push(report);
    }
    assert_eq!(woken, [true, false, true, false, false]);
    for report in &reports {
        assert!(report.end(wire.now));
        assert!(!wire.core.buffer.ended(report, wire.now), "it was pending before");
    }
}

#[test]
fn a_batch_ends_before_it_has_too_many_bytes() {
    let mut wire = Wire::with(|limits| limits.batch_max_bytes = 4000);
    wire.open();
    for number in 1..9 {
        wire.begin_of(number, app_of(number.into(), &"\u{1f600}".repeat(256)));
    }
    wire.linger();
    let messages: Vec<_> = (0..3).map(|_| wire.sent().unwrap()).collect();
    assert_eq!(messages.iter().map(|message| ids(message).len()).collect::<Vec<_>>(), [3, 3, 2]);
    assert!(messages.iter().all(|message| message.encoded_len() <= 4000));
}

#[test]
fn the_longest_slugs_in_the_largest_batch_stay_under_the_limit_of_bytes() {
    let mut wire = Wire::with(|limits| (limits.batch_max_reports, limits.batch_max_bytes) = (10_000, 4 << 20));
    wire.open();
    for number in 1..=10_000 {
        wire.begin_of(number, app_of(number.into(), &"\u{1f600}".repeat(256)));
    }
    wire.linger();
    let bytes = wire.sent().unwrap().encoded_len();
    assert!(bytes <= 4 << 20 && bytes > (4 << 20) / 100 * 98, "{bytes}");
}

#[test]
fn each_distinct_app_stands_in_a_batch_once() {
    let mut wire = Wire::new();
    wire.open();
    let terminal = || App::new([1; 16], [2; 16], [3; 16], AccessMethod::Terminal, "").unwrap();
    for (number, app) in [app_of(3, "code"), terminal(), app_of(3, "code"), terminal()].into_iter().enumerate() {
        wire.begin_of(number as u64 + 1, app);
    }
    wire.linger();
    let columns = wire.sent().unwrap().columns.unwrap();
    assert_eq!(columns.app, [0, 1, 0, 1]);
    assert_eq!(columns.apps.iter().map(|app| app.slug_or_port.as_str()).collect::<Vec<_>>(), ["code", ""]);
}

#[test]
fn at_most_eight_batches_are_on_their_way_while_reports_go_on_merging() {
    let mut wire = Wire::new();
    wire.open();
    let reports = wire.begin_many(1, 10_000);
    assert_eq!(wire.deliver(), 8);
    assert_eq!(wire.core.look_again_at_ns(), None);
    wire.end_all(&reports);
    assert!(wire.ack(1));
    assert_eq!(wire.deliver(), 1);
    assert!(wire.ack(9));
    wire.linger();
    wire.settle();
    assert!(reports.iter().all(|report| wire.is_known(report)));
    assert_eq!(wire.core.stats().unacknowledged_reports, 0);
    assert_eq!(wire.core.stats().acknowledged_reports, 8_000 + 10_000);
}

// --- reconnects ---

#[test]
fn what_was_not_acknowledged_is_sent_again_under_its_number_with_its_content() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
    wire.open();
    let reports = wire.begin_many(1, 4);
    let before = [wire.sent(), wire.sent()];
    wire.end_all(&reports);
    wire.lose(Code::Unavailable);
    wire.open();
    assert_eq!([wire.sent(), wire.sent()], before);
    assert!(before.iter().all(Option::is_some));
}

#[test]
fn what_the_first_answer_acknowledges_is_not_sent_again() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
    wire.open();
    wire.end_unheard(1, 4);
    assert_eq!(wire.deliver(), 2);
    wire.lose(Code::Unavailable);
    wire.daemon.clients.get_mut("client-1").unwrap().last = 1;
    wire.open();
    assert_eq!(wire.sent_ids(), Some((2, vec![3, 4])));
}

#[test]
fn an_acknowledgement_of_the_old_stream_that_comes_on_the_new_one_counts() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
    wire.open();
    wire.end_unheard(1, 6);
    for _ in 0..3 {
        wire.sent();
    }
    wire.lose(Code::Unavailable);
    wire.open();
    assert_eq!(wire.sent_ids(), Some((1, vec![1, 2])));
    assert!(wire.ack(2));
    assert_eq!(wire.sent_ids(), Some((3, vec![5, 6])));
    assert!(wire.ack(3));
    assert_eq!(wire.core.stats().unacknowledged_reports, 0);
}

#[test]
fn live_sessions_are_reported_again_under_new_numbers_after_what_was_not_acknowledged() {
    let mut wire = Wire::new();
    wire.open();
    wire.begin_many(1, 3);
    wire.linger();
    wire.settle();
    wire.end_unheard(4, 2);
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((2, vec![4, 5])));
    wire.lose(Code::Unavailable);
    wire.daemon.forget();
    wire.open();
    assert_eq!([wire.sent_ids(), wire.sent_ids()], [Some((2, vec![4, 5])), Some((3, vec![1, 2, 3]))]);
    assert_eq!(wire.sent_ids(), None);
}

#[test]
fn a_session_that_ended_while_the_daemon_was_away_is_not_reported_live_again() {
    let mut wire = Wire::new();
    wire.open();
    let report = wire.begin(1);
    wire.linger();
    wire.settle();
    wire.lose(Code::Unavailable);
    wire.end(&report);
    wire.open();
    wire.linger();
    wire.settle();
    assert!(wire.is_known(&report));
    assert_eq!(wire.daemon.applied.len(), 2);
}

#[test]
fn a_rejected_session_is_told_and_not_reported_live_again_but_its_end_is() {
    let mut wire = Wire::new();
    wire.open();
    let report = wire.begin(7);
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((1, vec![7])));
    let reason = RejectionReason::InvalidTime as i32;
    let rejected = vec![RejectedReport { sequence: 1, index: 0, reason, message: "too old".into() }];
    assert!(wire.core.answered(StreamReportsResponse { acked_sequence: 1, rejected }, wire.now));
    let rejection = Rejection {
        session_id: Uuid::from_u128(7),
        reason: "REJECTION_REASON_INVALID_TIME".into(),
        message: "too old".into(),
    };
    assert_eq!(
        wire.events(|event| matches!(event, Event::Rejected { .. })),
        [Event::Rejected { rejections: vec![rejection] }]
    );
    wire.count(&report, 1);
    wire.lose(Code::Unavailable);
    wire.open();
    wire.linger();
    assert_eq!(wire.sent_ids(), None);
    wire.end(&report);
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((2, vec![7])));
    assert_eq!(wire.core.stats().rejected_reports, 1);
}

#[test]
fn rejections_that_name_no_report_of_ours_and_unknown_reasons_do_no_harm() {
    let mut wire = Wire::new();
    wire.open();
    wire.begin(7);
    wire.linger();
    wire.sent();
    let rejected = [(9, 0, 5), (1, 5, 5), (1, 0, 99)]
        .map(|(sequence, index, reason)| RejectedReport { sequence, index, reason, message: String::new() })
        .to_vec();
    assert!(wire.core.answered(StreamReportsResponse { acked_sequence: 1, rejected }, wire.now));
    let told = wire.events(|event| matches!(event, Event::Rejected { .. }));
    let rejection = Rejection { session_id: Uuid::from_u128(7), reason: "99".into(), message: String::new() };
    assert_eq!(told, [Event::Rejected { rejections: vec![rejection] }]);
}

// --- refusals ---

#[test]
fn after_a_refusal_batches_go_singly_under_a_new_client_id_until_one_is_acknowledged() {
    for status in [Code::InvalidArgument, Code::ResourceExhausted] {
        let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
        wire.open();
        wire.end_unheard(1, 8);
        for _ in 0..4 {
            assert!(wire.sent().is_some());
        }
        assert!(wire.ack(1));
        wire.lose(status);
        assert_eq!(wire.open().client_id, "client-2");
        let message = wire.sent().unwrap();
        assert_eq!((message.sequence, ids(&message)), (1, vec![3, 4]));
        assert_eq!(wire.sent_ids(), None);
        wire.begin(9);
        assert_eq!(wire.core.look_again_at_ns(), None, "the shell would spin until the acknowledgement");
        wire.take(&message);
        assert_eq!([wire.sent_ids(), wire.sent_ids()], [Some((2, vec![5, 6])), Some((3, vec![7, 8]))]);
        assert_eq!(wire.core.stats().dropped_reports, 0);
        let told = wire.events(|event| matches!(event, Event::ClientIdReplaced { .. }));
        assert_eq!(told.len(), 1);
    }
}

#[test]
fn only_a_batch_refused_as_number_1_is_dropped_counted_and_told() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
    wire.open();
    wire.end_unheard(1, 6);
    for _ in 0..3 {
        wire.sent();
    }
    assert!(wire.ack(1));
    wire.lose(Code::InvalidArgument); // number 2 was the first on its way: nothing is dropped
    assert_eq!(wire.core.stats().dropped_reports, 0);
    wire.open();
    assert_eq!(wire.sent_ids(), Some((1, vec![3, 4])));
    wire.lose(Code::InvalidArgument); // number 1, alone
    assert_eq!(wire.core.stats().dropped_reports, 2);
    let refused = Event::BatchRefused { status: "INVALID_ARGUMENT", details: "because".into(), reports: 2, dropped: 2 };
    assert_eq!(wire.events(|event| matches!(event, Event::BatchRefused { .. })), [refused]);
    assert_eq!(wire.events(|event| matches!(event, Event::Dropped { .. })), []);
    let first = wire.open();
    assert_eq!((first.client_id.as_str(), first.dropped_reports), ("client-3", 2));
    let message = wire.sent().unwrap();
    assert_eq!((message.sequence, ids(&message), message.dropped_reports), (1, vec![5, 6], 2));
}

#[test]
fn a_refusal_while_several_were_on_their_way_drops_none_though_number_1_is_among_them() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
    wire.open();
    wire.end_unheard(1, 4);
    wire.sent();
    wire.sent();
    wire.lose(Code::InvalidArgument);
    wire.open();
    wire.settle();
    assert_eq!((wire.daemon.ever.len(), wire.core.stats().dropped_reports), (4, 0));
}

#[test]
fn a_refusal_before_any_batch_was_sent_drops_none() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
    wire.end_unheard(1, 2);
    wire.open();
    wire.lose(Code::InvalidArgument);
    wire.open();
    wire.settle();
    assert_eq!(wire.daemon.ever.len(), 2);
}

#[test]
fn sessions_the_daemon_may_believe_in_use_survive_the_refusal_of_their_batch_each_alone() {
    let mut wire = Wire::new();
    wire.open();
    let (live, ending) = (wire.begin(1), wire.begin(2));
    wire.linger();
    wire.settle();
    wire.count(&live, 1);
    wire.end(&ending);
    wire.end_unheard(3, 2);
    wire.lose(Code::AlreadyExists); // so that the next number is 1
    wire.open();
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((1, vec![1, 2, 3, 4])));
    wire.count(&live, 1);
    wire.lose(Code::InvalidArgument);
    assert_eq!(wire.core.stats().dropped_reports, 2);
    wire.open();
    let mut sent = Vec::new();
    while let Some(message) = wire.sent() {
        sent.push(ids(&message));
        wire.take(&message);
    }
    sent.sort();
    assert_eq!(sent, [[1], [2]]);
    assert!(wire.is_known(&ending) && wire.is_known(&live));
    assert_eq!(wire.held(&live).requests, 3);
    wire.end(&live);
    let other = wire.begin(5);
    wire.linger();
    assert_eq!(wire.sent_ids().unwrap().1, [1, 5], "alone until acknowledged, and no longer");
    assert!(other.state().tracked.is_some());
}

#[test]
fn a_report_that_is_refused_alone_is_held_back_and_tried_again_with_the_newest_of_its_session() {
    let mut wire = Wire::new();
    wire.open();
    let (poison, good) = (wire.begin(1), wire.begin(2));
    wire.linger();
    let mut refused = 0;
    while let Some(message) = wire.sent() {
        if ids(&message).contains(&1) {
            refused += 1;
            wire.lose(Code::InvalidArgument);
            wire.open();
        } else {
            wire.take(&message);
        }
    }
    assert_eq!(wire.held(&good).requests, 1);
    assert_eq!(wire.core.stats().pending_reports, 1);
    assert_eq!(refused, 2, "with its neighbor, and alone");
    wire.end(&poison);
    wire.now = wire.core.look_again_at_ns().unwrap();
    assert_eq!(wire.sent_ids(), None, "it lingers");
    wire.linger();
    wire.settle();
    assert!(wire.is_known(&poison));
    assert_eq!((wire.core.stats().dropped_reports, wire.core.stats().pending_reports), (0, 0));
}

#[test]
fn a_report_that_is_held_back_is_not_reported_again_by_a_reconnect() {
    let mut wire = Wire::new();
    wire.open();
    wire.begin(1);
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((1, vec![1])));
    wire.lose(Code::InvalidArgument);
    wire.open();
    assert_eq!(wire.sent_ids(), None);
    wire.lose(Code::Unavailable);
    wire.open();
    assert_eq!(wire.sent_ids(), None);
    assert_eq!(wire.core.stats().pending_reports, 1);
}

// --- mistaken identity ---

#[test]
fn a_client_id_in_use_twice_is_replaced_and_batches_are_sent_again_from_1() {
    for (status, name) in [(Code::AlreadyExists, "ALREADY_EXISTS"), (Code::Aborted, "ABORTED")] {
        let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
        wire.open();
        wire.end_unheard(1, 6);
        for _ in 0..3 {
            wire.sent();
        }
        assert!(wire.ack(1));
        wire.lose(status);
        assert_eq!(wire.open().client_id, "client-2");
        assert_eq!([wire.sent_ids(), wire.sent_ids()], [Some((1, vec![3, 4])), Some((2, vec![5, 6]))]);
        let (old, new) = ("client-1".into(), "client-2".into());
        let replaced = Event::ClientIdReplaced { old, new, status: name, details: "because".into() };
        assert_eq!(wire.events(|event| matches!(event, Event::ClientIdReplaced { .. })), [replaced]);
    }
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_means_that_the_client_id_is_in_use_twice() {
    let mut wire = Wire::new();
    wire.open();
    wire.end_unheard(1, 1);
    wire.linger();
    assert!(wire.sent().is_some());
    assert!(!wire.ack(2));
    wire.lose(Code::Cancelled);
    assert_eq!(wire.open().client_id, "client-2");
    assert_eq!(wire.sent_ids(), Some((1, vec![1])));
}

#[test]
fn what_was_sent_under_the_old_client_id_vouches_for_nothing_under_the_new_one() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 1);
    wire.open();
    wire.end_unheard(1, 3);
    wire.settle();
    wire.lose(Code::Aborted);
    wire.open();
    wire.end_unheard(4, 1);
    assert_eq!(wire.sent_ids(), Some((1, vec![4])));
    assert!(!wire.ack(2));
    wire.lose(Code::Cancelled);
    wire.core.opened(wire.now);
    assert!(!wire.ack(1), "it has a number, but was not sent under it");
}

#[test]
fn live_sessions_move_to_the_new_client_id() {
    let mut wire = Wire::new();
    wire.open();
    wire.begin(1);
    wire.linger();
    wire.settle();
    wire.lose(Code::Aborted);
    wire.open();
    wire.settle();
    assert_eq!(wire.daemon.applied, [("client-1".into(), 1), ("client-2".into(), 1)]);
}

// --- when the next attempt is made ---

#[test]
fn attempts_back_off_at_random_up_to_eight_seconds() {
    let mut wire = Wire::new();
    let expected = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0];
    for wait in expected {
        wire.core.opened(wire.now);
        assert_eq!(wire.lose(Code::Unavailable), wait);
    }
    assert_eq!(*wire.drawn.lock().unwrap(), expected.map(|wait| (0.0, wait)));
    let attempts: Vec<u64> = wire
        .core
        .take_events()
        .iter()
        .filter_map(|event| if let Event::Disconnected { attempt, .. } = event { Some(*attempt) } else { None })
        .collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_years_outage_does_not_overflow_the_backoff() {
    let mut wire = Wire::new();
    for _ in 0..5000 {
        wire.core.opened(wire.now);
        assert!(wire.lose(Code::Unavailable) <= 8.0);
    }
}

#[test]
fn the_backoff_starts_anew_when_a_batch_is_acknowledged() {
    let mut wire = Wire::new();
    for _ in 0..5 {
        wire.core.opened(wire.now);
        wire.lose(Code::Unavailable);
    }
    wire.open();
    assert_eq!(wire.lose(Code::Unavailable), 8.0, "an answer alone is no success");
    wire.open();
    wire.end_unheard(1, 1);
    wire.linger();
    wire.settle();
    assert_eq!(wire.lose(Code::Unavailable), 0.25);
}

#[test]
fn the_backoff_starts_anew_after_a_stream_that_lasted() {
    let mut wire = Wire::new();
    for _ in 0..5 {
        wire.core.opened(wire.now);
        wire.lose(Code::Unavailable);
    }
    wire.open();
    wire.now += 8 * SECOND;
    assert_eq!(wire.lose(Code::Unavailable), 0.25);
}

#[test]
fn the_daemons_own_delay_replaces_the_backoff_up_to_the_slowest_pace() {
    let mut wire = Wire::new();
    wire.open();
    assert_eq!(wire.lose_with_delay(Code::Unavailable, Some(2000)), 2.5);
    assert_eq!(*wire.drawn.lock().unwrap(), [(1.0, 1.25)]);
    for delay_ms in [3_600_000, u64::MAX] {
        wire.open();
        assert_eq!(wire.lose_with_delay(Code::Unavailable, Some(delay_ms)), 10.0);
    }
}

#[test]
fn what_a_person_must_mend_is_tried_again_at_the_slowest_pace_and_costs_nothing() {
    for status in [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented] {
        let mut wire = Wire::new();
        wire.open();
        wire.end_unheard(1, 1);
        wire.linger();
        assert!(wire.sent().is_some());
        assert_eq!(wire.lose(status), 10.0);
        assert_eq!(wire.open().client_id, "client-1");
        assert_eq!(wire.sent_ids(), Some((1, vec![1])));
    }
}

#[test]
fn every_other_status_keeps_client_id_and_numbers() {
    for status in [Code::Ok, Code::Unavailable, Code::Internal, Code::Unknown, Code::Cancelled, Code::DeadlineExceeded]
    {
        let mut wire = Wire::new();
        wire.open();
        wire.end_unheard(1, 1);
        wire.linger();
        assert!(wire.sent().is_some());
        wire.lose(status);
        assert_eq!(wire.open().client_id, "client-1");
        assert_eq!(wire.sent_ids(), Some((1, vec![1])));
    }
}

// --- bounds ---

#[test]
fn a_full_buffer_drops_the_new_report_counts_it_and_says_so_to_the_daemon() {
    let mut wire = Wire::with(|limits| limits.max_pending_reports = 3);
    wire.end_unheard(1, 5);
    assert_eq!(wire.open().dropped_reports, 2);
    wire.linger();
    let message = wire.sent().unwrap();
    assert_eq!((ids(&message), message.dropped_reports), (vec![1, 2, 3], 2));
    let told = wire.events(|event| matches!(event, Event::Dropped { .. }));
    assert_eq!(told, [Event::Dropped { reports: 2, total: 2 }]);
    assert_eq!(wire.core.take_events(), []);
}

#[test]
fn the_end_of_a_session_once_reported_live_finds_room_in_a_full_buffer() {
    let mut wire = Wire::with(|limits| (limits.max_pending_reports, limits.max_live_sessions) = (2, 3));
    wire.open();
    let reports = wire.begin_many(1, 3);
    wire.linger();
    wire.settle();
    wire.lose(Code::Unavailable);
    wire.end_unheard(4, 10);
    wire.end_all(&reports);
    wire.open();
    wire.linger();
    wire.settle();
    assert!(reports.iter().all(|report| wire.is_known(report)));
    assert_eq!(wire.core.stats().dropped_reports, 8);
}

#[test]
fn a_live_session_too_many_is_reported_when_it_ends() {
    let mut wire = Wire::with(|limits| limits.max_live_sessions = 2);
    wire.open();
    let reports = wire.begin_many(1, 3);
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((1, vec![1, 2])));
    assert_eq!(wire.core.stats().dropped_reports, 1);
    wire.end(&reports[2]);
    wire.linger();
    assert_eq!(wire.sent_ids(), Some((2, vec![3])));
    assert_eq!(wire.core.stats().dropped_reports, 1);
}

#[test]
fn an_unacknowledged_end_still_takes_its_place_among_the_live_ones() {
    let mut wire = Wire::with(|limits| limits.max_live_sessions = 1);
    wire.open();
    let report = wire.begin(1);
    wire.linger();
    wire.settle();
    wire.end(&report);
    assert!(wire.begin(2).state().tracked.is_none());
    wire.linger();
    wire.settle();
    assert!(wire.begin(3).state().tracked.is_some());
}

#[test]
fn sessions_that_come_and_go_in_an_outage_need_no_more_than_the_bounds() {
    let mut wire = Wire::with(|limits| (limits.max_pending_reports, limits.max_live_sessions) = (10, 5));
    wire.open();
    let live = wire.begin_many(1, 5);
    wire.linger();
    wire.settle();
    wire.lose(Code::Unavailable);
    wire.end_all(&live);
    for number in 6..1000 {
        let report = wire.begin(number);
        wire.end(&report);
    }
    assert_eq!(wire.core.stats().pending_reports, 15);
}

#[test]
fn a_client_without_a_connection_holds_live_sessions_that_ended_as_ordinary_reports() {
    let mut wire = Wire::with(|limits| limits.max_pending_reports = 1);
    let reports = wire.begin_many(1, 2);
    wire.end_all(&reports);
    let stats = wire.core.stats();
    assert_eq!((stats.pending_reports, stats.dropped_reports, stats.live_sessions), (1, 1, 0));
}

// --- closing ---

#[test]
fn closing_ends_what_is_left_and_follows_the_last_acknowledgement() {
    let mut wire = Wire::new();
    wire.open();
    let report = wire.begin(1);
    wire.linger();
    wire.settle();
    wire.core.close(wire.now);
    let message = wire.sent().unwrap();
    assert!(!message.closing);
    assert_eq!(wire.sent(), None, "closing goes out before the last batch is acknowledged");
    wire.take(&message);
    let message = wire.sent().unwrap();
    assert_eq!((message.closing, message.sequence, message.columns.is_some()), (true, 0, false));
    assert_eq!(wire.sent(), None);
    wire.lose(Code::Ok);
    assert!(wire.core.done && wire.core.confirmed);
    assert!(wire.is_known(&report) && report.state().ended_ns > 0);
    let told = wire.events(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(told, [Event::Closed { confirmed: true, left: 0 }]);
}

#[test]
fn closing_is_sent_again_when_there_was_no_ok() {
    let mut wire = Wire::new();
    wire.open();
    wire.end_unheard(1, 1);
    wire.core.close(wire.now);
    let message = wire.sent().unwrap();
    wire.take(&message);
    assert!(wire.sent().unwrap().closing);
    wire.lose(Code::Unavailable);
    assert!(!wire.core.done);
    wire.open();
    assert!(wire.sent().unwrap().closing);
    wire.lose(Code::Ok);
    assert!(wire.core.confirmed);
}

#[test]
fn an_ok_without_closing_closes_nothing() {
    let mut wire = Wire::new();
    wire.open();
    wire.end_unheard(1, 1);
    wire.linger();
    wire.settle();
    wire.core.close(wire.now);
    wire.lose(Code::Ok);
    assert!(!wire.core.done);
    wire.open();
    wire.settle();
    assert!(wire.core.confirmed);
}

#[test]
fn closing_makes_the_next_attempt_at_once() {
    let mut wire = Wire::new();
    wire.end_unheard(1, 1);
    for _ in 0..8 {
        wire.core.opened(wire.now);
        wire.lose(Code::Unavailable);
    }
    wire.core.close(wire.now);
    assert_eq!(wire.core.connect_at_ns, wire.now);
    wire.core.opened(wire.now);
    assert_eq!(wire.lose(Code::Unavailable), 0.25);
}

#[test]
fn a_client_that_has_sent_nothing_has_nothing_to_close() {
    let mut wire = Wire::new();
    wire.core.close(wire.now);
    assert!(wire.core.done && wire.core.confirmed);
}

#[test]
fn nothing_is_taken_after_closing_and_what_is_lost_is_counted() {
    let mut wire = Wire::new();
    wire.open();
    wire.end_unheard(1, 1);
    wire.core.close(wire.now);
    let late = wire.begin(2);
    assert_eq!(wire.core.stats().dropped_reports, 0);
    wire.end(&late);
    assert_eq!(wire.core.stats().dropped_reports, 1);
    wire.settle();
    assert_eq!(wire.daemon.ever.keys().map(Uuid::as_u128).collect::<Vec<_>>(), [1]);
    assert_eq!(wire.daemon.dropped["client-1"], 1);
}

#[test]
fn what_is_left_at_the_deadline_is_counted_as_dropped() {
    let mut wire = Wire::with(|limits| limits.batch_max_reports = 2);
    wire.open();
    wire.end_unheard(1, 3);
    wire.sent();
    wire.core.close(wire.now);
    wire.core.abandon();
    assert!(wire.core.done && !wire.core.confirmed);
    assert_eq!(wire.core.stats().dropped_reports, 3);
    let told = wire.events(|event| matches!(event, Event::Closed { .. } | Event::Dropped { .. }));
    assert_eq!(told, [Event::Closed { confirmed: false, left: 3 }]);
}

#[test]
fn what_is_refused_alone_is_tried_once_more_when_the_client_closes_and_then_given_up() {
    let mut wire = Wire::new();
    wire.open();
    wire.begin(1);
    wire.linger();
    let refuse_all = |wire: &mut Wire| {
        let mut refusals = 0;
        while let Some(message) = wire.sent() {
            if message.closing {
                wire.lose(Code::Ok);
                break;
            }
            refusals += 1;
            wire.lose(Code::InvalidArgument);
            wire.open();
        }
        refusals
    };
    assert_eq!(refuse_all(&mut wire), 1);
    wire.core.close(wire.now);
    assert_eq!(refuse_all(&mut wire), 1);
    assert!(wire.core.done && wire.core.confirmed);
    assert_eq!(wire.core.stats().dropped_reports, 1);
}
