//! Whatever the transport does, every session's newest state reaches the daemon, by the wire's rules, within the bounds.
//!
//! A model daemon and a network stand opposite a core with tight limits. Messages and acknowledgements wait on the network and
//! are lost with their stream, which may end at any moment with any status. The model daemon fails the test at a gap, a changed
//! content or a broken batch. At the end everything is mended, and what the daemon knows is compared with the sessions.
//! A story that fails is told again by its seed.

use std::{
    collections::{HashSet, VecDeque},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
};

use tonic::Code;
use uuid::Uuid;

use super::model_daemon::{ModelDaemon, rows};
use crate::{
    AccessMethod, App, Limits,
    core::{Core, Ending, Random},
    report::Report,
    wire::{StreamReportsRequest, StreamReportsResponse},
};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;
const STORIES: u64 = 3_000;
const STEPS: usize = 80;
const STATUSES: [Code; 10] = [
    Code::Ok,
    Code::Unavailable,
    Code::InvalidArgument,
    Code::ResourceExhausted,
    Code::AlreadyExists,
    Code::Aborted,
    Code::Unauthenticated,
    Code::PermissionDenied,
    Code::Internal,
    Code::Cancelled,
];

fn limits() -> Limits {
    Limits {
        batch_max_reports: 3,
        window_batches: 2,
        max_live_sessions: 4,
        max_pending_reports: 5,
        ..Limits::default()
    }
}

/// Numbers that are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

/// Client ids by number, and waits that the story chooses.
struct Drawn {
    ids: u64,
    draw: Arc<Mutex<f64>>,
}

impl Random for Drawn {
    fn client_id(&mut self) -> String {
        self.ids += 1;
        format!("client-{}", self.ids)
    }

    fn uniform(&mut self, least: f64, most: f64) -> f64 {
        least + *self.draw.lock().unwrap() * (most - least)
    }
}

/// Sessions that come and go, a stream that moves message by message, and everything that can happen to it.
struct Network {
    dice: Dice,
    now: u64,
    draw: Arc<Mutex<f64>>,
    apps: [App; 2],
    daemon: ModelDaemon,
    poison: HashSet<Uuid>,
    reports: Vec<Arc<Report>>,
    core: Core,
    is_open: bool,
    client_id: String,
    up: VecDeque<StreamReportsRequest>,
    down: VecDeque<StreamReportsResponse>,
}

impl Network {
    fn new(seed: u64) -> Self {
        let draw = Arc::new(Mutex::new(0.5));
        let app = |slug| App::new([1; 16], [2; 16], [3; 16], AccessMethod::Path, slug).unwrap();
        Self {
            dice: Dice(seed),
            now: SECOND,
            draw: draw.clone(),
            apps: [app("code"), app("jupyter")],
            daemon: ModelDaemon::default(),
            poison: HashSet::new(),
            reports: Vec::new(),
            core: Core::new(limits(), Box::new(Drawn { ids: 0, draw })),
            is_open: false,
            client_id: String::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
        }
    }

    fn step(&mut self) {
        match self.dice.roll(16) {
            0 | 1 => self.begin(),
            2 => self.update(),
            3 | 4 => self.end(),
            5 => self.wait(),
            6 => self.daemon_changes_its_mood(),
            7 if !self.is_open && self.now >= self.core.connect_at_ns => self.open(),
            8..=10 if self.is_open => drop(self.send()),
            11 | 12 if !self.up.is_empty() => self.arrive(),
            13 | 14 if !self.down.is_empty() => self.answer(),
            15 if self.is_open => {
                let status = STATUSES[self.dice.roll(STATUSES.len())];
                self.lose(status);
            }
            _ => {}
        }
    }

    // --- the proxy ---

    fn begin(&mut self) {
        let app = self.apps[self.dice.roll(2)].clone();
        let session_id = Uuid::from_u128(self.reports.len() as u128 + 1);
        let report = Arc::new(Report::new(app, session_id, START + self.now, self.now as i64, 1));
        if self.dice.roll(2) == 0 {
            self.core.buffer.begin(&report, self.now);
        }
        self.reports.push(report);
    }

    fn any_report(&mut self) -> Option<Arc<Report>> {
        let count = self.reports.len();
        (count > 0).then(|| self.reports[self.dice.roll(count)].clone())
    }

    fn update(&mut self) {
        if let Some(report) = self.any_report()
            && report.count(1)
        {
            self.core.buffer.changed(&report, self.now);
        }
    }

    fn end(&mut self) {
        if let Some(report) = self.any_report()
            && report.end(self.now)
        {
            self.core.buffer.ended(&report, self.now);
        }
    }

    // --- time and the daemon's mood ---

    fn wait(&mut self) {
        self.now += [SECOND / 3, SECOND, 10 * SECOND, 60 * SECOND][self.dice.roll(4)];
        *self.draw.lock().unwrap() = self.dice.roll(101) as f64 / 100.0;
    }

    fn daemon_changes_its_mood(&mut self) {
        match self.dice.roll(4) {
            0 | 1 => {
                if let Some(report) = self.any_report() {
                    self.poison.insert(report.session_id);
                }
            }
            2 => self.poison.clear(),
            _ => {
                if self.is_open {
                    self.lose(Code::Unavailable);
                }
                self.daemon.forget();
            }
        }
    }

    // --- the stream ---

    fn open(&mut self) {
        self.up = VecDeque::from([self.core.opened(self.now)]);
        self.down.clear();
        self.client_id.clear();
        self.is_open = true;
    }

    fn send(&mut self) -> bool {
        if let Some(message) = self.core.next_message(self.now) {
            self.up.push_back(message);
            return true;
        }
        assert!(self.core.look_again_at_ns().is_none_or(|at_ns| at_ns > self.now), "the shell would spin");
        false
    }

    fn arrive(&mut self) {
        let message = self.up.pop_front().unwrap();
        let acked_sequence = if self.client_id.is_empty() {
            self.client_id = message.client_id.clone();
            self.daemon.first(&message)
        } else if message.closing {
            self.daemon.close(&self.client_id, &message);
            return self.lose(Code::Ok);
        } else if rows(message.columns.as_ref().unwrap()).iter().any(|(id, _)| self.poison.contains(id)) {
            return self.lose(Code::InvalidArgument);
        } else {
            self.daemon.batch(&self.client_id, &message)
        };
        self.down.push_back(StreamReportsResponse { acked_sequence, ..Default::default() });
    }

    fn answer(&mut self) {
        let response = self.down.pop_front().unwrap();
        assert!(self.core.answered(response, self.now));
    }

    fn lose(&mut self, status: Code) {
        self.is_open = false;
        self.up.clear();
        self.down.clear();
        self.core.ended(Ending { status, details: String::new(), retry_delay_ms: None }, self.now);
    }

    // --- what always holds ---

    fn memory_is_bounded(&self) {
        let (stats, limits) = (self.core.stats(), limits());
        assert!(stats.live_sessions <= limits.max_live_sessions);
        assert!(stats.pending_reports <= limits.max_live_sessions + limits.max_pending_reports);
        assert!(stats.unacknowledged_reports <= limits.window_batches * limits.batch_max_reports);
    }

    /// Everything works; moves all that can move.
    fn pump(&mut self) {
        for _ in 0..400 {
            if !self.is_open {
                self.now = self.now.max(self.core.connect_at_ns);
                self.open();
            }
            let moved = self.send() || !self.up.is_empty() || !self.down.is_empty();
            while self.is_open && !self.up.is_empty() {
                self.arrive();
            }
            while self.is_open && !self.down.is_empty() {
                self.answer();
            }
            if self.core.done {
                return;
            }
            if !moved && self.is_open {
                let Some(at_ns) = self.core.look_again_at_ns() else { return };
                self.now = self.now.max(at_ns);
            }
        }
        panic!("it never comes to rest");
    }

    fn mend_and_compare(&mut self) {
        self.poison.clear();
        if self.is_open {
            self.lose(Code::Unavailable);
        }
        self.pump();
        let stats = self.core.stats();
        assert_eq!((stats.pending_reports, stats.unacknowledged_reports), (0, 0));
        let mut missing = 0;
        for report in &self.reports {
            let (held, state) = (self.daemon.ever.get(&report.session_id), report.state());
            if state.tracked.is_some() {
                assert_eq!(self.daemon.sessions[&report.session_id].requests, state.requests);
                assert_eq!(state.ended_ns, 0);
            } else if state.said_live || (held.is_some() && state.ended_ns != 0) {
                let held = held.expect("the daemon has heard of it");
                assert_eq!((held.ended_ns, held.requests), (state.ended_ns, state.requests));
            } else if state.ended_ns != 0 {
                missing += 1;
            }
        }
        assert!(missing <= stats.dropped_reports);
        self.core.close(self.now);
        self.pump();
        assert!(self.core.confirmed);
        for report in &self.reports {
            let state = report.state();
            if state.said_live {
                let held = &self.daemon.ever[&report.session_id];
                assert_eq!((held.ended_ns, held.requests), (state.ended_ns, state.requests));
            }
        }
    }
}

fn tell(seed: u64) {
    let mut network = Network::new(seed);
    network.open();
    for _ in 0..STEPS {
        network.step();
        network.memory_is_bounded();
    }
    network.mend_and_compare();
}

#[test]
fn every_sessions_newest_state_arrives_whatever_the_network_does() {
    for seed in 0..STORIES {
        let told = panic::catch_unwind(AssertUnwindSafe(|| tell(seed)));
        assert!(told.is_ok(), "the story of seed {seed} ends badly; tell({seed}) tells it again");
    }
}
