//! What goes out under one number? A batch of reports as columns.
//!
//! Invariant: the content of a batch never changes after it was cut, whatever happens to its sessions; only its number does,
//! and only when it is sent under another client_id.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::{app::App, report::Report, wire};

/// The reports as columns, each distinct app once.
fn columns(reports: &[Arc<Report>]) -> wire::SessionReportColumns {
    let mut columns = wire::SessionReportColumns {
        apps: Vec::new(),
        app: Vec::with_capacity(reports.len()),
        session_ids: Vec::with_capacity(16 * reports.len()),
        session_started_at_unix_nano: Vec::with_capacity(reports.len()),
        session_ended_at_unix_nano: Vec::with_capacity(reports.len()),
        requests: Vec::with_capacity(reports.len()),
    };
    let mut places: HashMap<&App, u32> = HashMap::new();
    for report in reports {
        let next = columns.apps.len() as u32;
        let place = match places.entry(&report.app) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                columns.apps.push(on_the_wire(&report.app));
                *new.insert(next)
            }
        };
        columns.app.push(place);
        columns.session_ids.extend_from_slice(report.session_id.as_bytes());
        columns.session_started_at_unix_nano.push(report.started_ns);
        let state = report.state();
        columns.session_ended_at_unix_nano.push(state.ended_ns);
        columns.requests.push(state.requests);
    }
    columns
}

fn on_the_wire(app: &App) -> wire::App {
    wire::App {
        user_id: app.user_id().into_bytes().to_vec(),
        workspace_id: app.workspace_id().into_bytes().to_vec(),
        agent_id: app.agent_id().into_bytes().to_vec(),
        access_method: app.access_method() as i32,
        slug_or_port: app.slug_or_port().to_owned(),
    }
}

/// Reports that were put together under a number and wait for its acknowledgement.
pub(crate) struct Batch {
    pub number: u64,
    /// Whose state it holds, in the order of its columns.
    pub reports: Vec<Arc<Report>>,
    columns: wire::SessionReportColumns,
}

impl Batch {
    pub fn new(number: u64, reports: Vec<Arc<Report>>) -> Self {
        let columns = columns(&reports);
        Self { number, reports, columns }
    }

    /// Those whose end is in it; the others may have ended since.
    pub fn ends(&self) -> impl Iterator<Item = &Arc<Report>> {
        let ended = self.columns.session_ended_at_unix_nano.iter();
        self.reports.iter().zip(ended).filter(|(_, ended_ns)| **ended_ns != 0).map(|(report, _)| report)
    }

    /// The message that carries it.
    pub fn message(&self, dropped_reports: u64) -> wire::StreamReportsRequest {
        wire::StreamReportsRequest {
            sequence: self.number,
            columns: Some(self.columns.clone()),
            dropped_reports,
            ..Default::default()
        }
    }
}
