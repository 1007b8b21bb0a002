//! Which reports wait, and what may never be lost? The pending reports of a client, one for each session, and their bounds.
//!
//! A report that waits is the session's own state, so it is always the newest. Reports wait in pools:
//!
//! - `kept`: reports of tracked sessions, those that the daemon may believe to be in use, or soon will. Never dropped.
//! - `ordinary`: ended sessions that the daemon has never heard of. Dropped, and counted, when there are too many.
//! - `alone`: tracked ones that were in a batch that the daemon refused. Each goes into a batch of its own.
//! - `held`: tracked ones that were refused alone. Tried again later.
//!
//! Invariant: a report is in one pool at most, the one that its state names; `kept`, `alone` and `held` hold tracked sessions
//! only, of which there are at most `max_live_sessions`; `ordinary` holds at most `max_pending_reports`. A session stops being
//! tracked when its end is acknowledged, or when it ends without ever having been put into a batch as live.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::Arc,
};

use crate::{
    app::App,
    batch::Batch,
    limits::{Limits, nanoseconds},
    report::{Pool, Report, State},
};

/// At most how much a report adds to a batch, its app aside.
const REPORT_BYTES: usize = 42;

/// Pending reports. Methods that may make a batch due sooner return whether a waiting sender has to look again.
pub(crate) struct Buffer {
    limits: Limits,
    /// By a number that rises, so in the order in which they came; the pools likewise.
    tracked: BTreeMap<u64, Arc<Report>>,
    kept: BTreeMap<u64, Arc<Report>>,
    ordinary: BTreeMap<u64, Arc<Report>>,
    alone: BTreeMap<u64, Arc<Report>>,
    /// With the time at which each is tried again, which rises, too.
    held: BTreeMap<u64, (Arc<Report>, u64)>,
    next_place: u64,
    linger_ends_ns: u64,
    /// How many tracked sessions have no end.
    pub live: usize,
    /// Reports lost so far.
    pub dropped: u64,
    /// Whether nothing is taken any more, and all that waits is due.
    pub closed: bool,
}

impl Buffer {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            tracked: BTreeMap::new(),
            kept: BTreeMap::new(),
            ordinary: BTreeMap::new(),
            alone: BTreeMap::new(),
            held: BTreeMap::new(),
            next_place: 0,
            linger_ends_ns: 0,
            live: 0,
            dropped: 0,
            closed: false,
        }
    }

    /// How many reports wait, those that are held back aside.
    pub fn pending(&self) -> usize {
        self.kept.len() + self.ordinary.len() + self.alone.len()
    }

    /// How many reports wait, all of them.
    pub fn waiting(&self) -> usize {
        self.pending() + self.held.len()
    }

    /// Tracks a new session and makes its live report pending, if there is room.
    pub fn begin(&mut self, report: &Arc<Report>, now_ns: u64) -> bool {
        if self.closed {
            return false;
        }
        if self.tracked.len() >= self.limits.max_live_sessions {
            self.dropped += 1;
            return false;
        }
        let mut state = report.state();
        let place = self.next_place();
        state.tracked = Some(place);
        self.tracked.insert(place, report.clone());
        self.live += 1;
        self.put(Pool::Kept, report, &mut state, now_ns)
    }

    /// A live session has another count.
    pub fn changed(&mut self, report: &Arc<Report>, now_ns: u64) -> bool {
        let mut state = report.state();
        state.tracked.is_some() && !state.rejected && self.keep(report, &mut state, now_ns)
    }

    /// A session has its end.
    pub fn ended(&mut self, report: &Arc<Report>, now_ns: u64) -> bool {
        let mut state = report.state();
        if state.tracked.is_some() {
            self.live -= 1;
            if state.said_live {
                return self.keep(report, &mut state, now_ns);
            }
            self.forget(&mut state);
        }
        if self.closed || self.ordinary.len() >= self.limits.max_pending_reports {
            self.take_out(&mut state);
            self.dropped += 1;
            return false;
        }
        self.put(Pool::Ordinary, report, &mut state, now_ns)
    }

    /// Makes every tracked live session pending, due at once.
    pub fn report_live_again(&mut self, now_ns: u64) {
        for report in self.tracked.values().cloned().collect::<Vec<_>>() {
            let mut state = report.state();
            if state.ended_ns == 0 && !state.rejected {
                self.keep(&report, &mut state, now_ns);
            }
        }
        self.linger_ends_ns = now_ns;
    }

    /// Ends every tracked live session. Takes nothing afterwards; what is held back is tried once more.
    pub fn close(&mut self, now_ns: u64) {
        for report in self.tracked.values().cloned().collect::<Vec<_>>() {
            if report.end(now_ns) {
                self.ended(&report, now_ns);
            }
        }
        self.closed = true;
        self.release(u64::MAX);
    }

    /// Whether a batch is to be cut.
    pub fn is_due(&mut self, now_ns: u64) -> bool {
        self.release(now_ns);
        let pending = self.pending();
        pending > 0 && (self.closed || pending >= self.limits.batch_max_reports || now_ns >= self.linger_ends_ns)
    }

    /// When `is_due` will change its answer if nothing else happens; `None`: not at all.
    pub fn due_at_ns(&self) -> Option<u64> {
        let released = self.held.first_key_value().map(|(_, (_, at_ns))| *at_ns);
        let lingered = (self.pending() > 0).then_some(self.linger_ends_ns);
        released.into_iter().chain(lingered).min()
    }

    /// The reports of the next batch, which are then not pending any more. There has to be one.
    pub fn take(&mut self) -> Vec<Arc<Report>> {
        let mut taken = Vec::new();
        if let Some((_, report)) = self.alone.pop_first() {
            taken.push(report);
        } else {
            let mut apps: HashSet<App> = HashSet::new();
            let mut used_bytes = 0;
            for pool in [&mut self.kept, &mut self.ordinary] {
                while let Some(first) = pool.first_entry() {
                    let app = &first.get().app;
                    let is_new = !apps.contains(app);
                    used_bytes += REPORT_BYTES + if is_new { app.wire_bytes() } else { 0 };
                    let is_full =
                        used_bytes > self.limits.batch_max_bytes || taken.len() == self.limits.batch_max_reports;
                    if is_full && !taken.is_empty() {
                        break;
                    }
                    if is_new {
                        apps.insert(app.clone());
                    }
                    taken.push(first.remove());
                }
            }
        }
        for report in &taken {
            let mut state = report.state();
            state.waits = None;
            state.said_live |= state.ended_ns == 0;
        }
        taken
    }

    /// The daemon has acknowledged this batch.
    pub fn accepted(&mut self, batch: &Batch) {
        for report in batch.ends() {
            self.forget(&mut report.state());
        }
        if let [report] = batch.reports.as_slice() {
            report.state().alone = false;
        }
    }

    /// The daemon has refused this batch: its reports of tracked sessions are pending again, each alone.
    ///
    /// Returns how many reports are lost.
    pub fn refused(&mut self, batch: &Batch, now_ns: u64) -> usize {
        let mut lost = 0;
        for report in &batch.reports {
            let mut state = report.state();
            if state.tracked.is_none() {
                lost += 1;
            } else if batch.reports.len() > 1 {
                state.alone = true;
                self.put(Pool::Alone, report, &mut state, now_ns);
            } else if !self.closed {
                state.alone = true;
                self.put(Pool::Held, report, &mut state, now_ns);
            } else {
                self.take_out(&mut state);
                self.forget(&mut state);
                lost += 1;
            }
        }
        self.dropped += lost as u64;
        lost
    }

    fn next_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    fn forget(&mut self, state: &mut State) {
        if let Some(place) = state.tracked.take() {
            self.tracked.remove(&place);
        }
    }

    fn keep(&mut self, report: &Arc<Report>, state: &mut State, now_ns: u64) -> bool {
        if matches!(state.waits, Some((Pool::Held, _))) {
            return false;
        }
        self.put(if state.alone { Pool::Alone } else { Pool::Kept }, report, state, now_ns)
    }

    /// Lets a report wait in this pool, and in no other; one that is there already keeps its place.
    fn put(&mut self, pool: Pool, report: &Arc<Report>, state: &mut State, now_ns: u64) -> bool {
        if state.waits.is_some_and(|(present, _)| present == pool) {
            return false;
        }
        let before = self.pending();
        self.take_out(state);
        let place = self.next_place();
        state.waits = Some((pool, place));
        match pool {
            Pool::Kept => self.kept.insert(place, report.clone()),
            Pool::Ordinary => self.ordinary.insert(place, report.clone()),
            Pool::Alone => self.alone.insert(place, report.clone()),
            Pool::Held => {
                let at_ns = now_ns.saturating_add(nanoseconds(self.limits.refused_retry));
                self.held.insert(place, (report.clone(), at_ns));
                return false;
            }
        };
        if before == 0 {
            self.linger_ends_ns = now_ns.saturating_add(nanoseconds(self.limits.linger));
            return true;
        }
        before < self.limits.batch_max_reports && self.pending() == self.limits.batch_max_reports
    }

    fn take_out(&mut self, state: &mut State) {
        match state.waits.take() {
            Some((Pool::Kept, place)) => drop(self.kept.remove(&place)),
            Some((Pool::Ordinary, place)) => drop(self.ordinary.remove(&place)),
            Some((Pool::Alone, place)) => drop(self.alone.remove(&place)),
            Some((Pool::Held, place)) => drop(self.held.remove(&place)),
            None => {}
        }
    }

    /// Takes back what was held back until now.
    fn release(&mut self, now_ns: u64) {
        if self.held.first_key_value().is_none_or(|(_, (_, at_ns))| *at_ns > now_ns) {
            return;
        }
        let later = self.held.iter().find(|(_, (_, at_ns))| *at_ns > now_ns).map(|(place, _)| *place);
        let later = later.map(|place| self.held.split_off(&place)).unwrap_or_default();
        for (report, _) in mem::replace(&mut self.held, later).into_values() {
            let mut state = report.state();
            state.waits = None;
            self.put(Pool::Alone, &report, &mut state, now_ns);
        }
    }
}
