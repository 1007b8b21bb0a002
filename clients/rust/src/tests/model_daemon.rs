//! What does a daemon make of what clients send? The sequence rules of the wire and the merge of reports, and nothing else.
//!
//! Invariant: whatever breaks a rule of the wire that no test asked for is a panic here, and so fails the test.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message;
use uuid::Uuid;

use crate::wire::{SessionReportColumns, StreamReportsRequest};

/// What is known of one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub app: (Uuid, Uuid, Uuid, i32, String),
    pub started_ns: u64,
    pub ended_ns: u64,
    pub requests: u32,
}

/// What is known of one client_id.
#[derive(Default)]
pub struct KnownClient {
    pub last: u64,
    contents: HashMap<u64, Vec<u8>>,
}

/// The reports of a batch, with its lengths checked.
pub fn rows(columns: &SessionReportColumns) -> Vec<(Uuid, Held)> {
    let count = columns.app.len();
    assert_eq!(count, columns.requests.len());
    assert_eq!(count, columns.session_started_at_unix_nano.len());
    assert_eq!(count, columns.session_ended_at_unix_nano.len());
    assert_eq!(16 * count, columns.session_ids.len());
    let id = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap();
    (0..count)
        .map(|i| {
            let app = &columns.apps[columns.app[i] as usize];
            let ids = (id(&app.user_id), id(&app.workspace_id), id(&app.agent_id));
            let held = Held {
                app: (ids.0, ids.1, ids.2, app.access_method, app.slug_or_port.clone()),
                started_ns: columns.session_started_at_unix_nano[i],
                ended_ns: columns.session_ended_at_unix_nano[i],
                requests: columns.requests[i],
            };
            (id(&columns.session_ids[16 * i..16 * i + 16]), held)
        })
        .collect()
}

/// A daemon without I/O: client ids and sessions.
#[derive(Default)]
pub struct ModelDaemon {
    pub clients: BTreeMap<String, KnownClient>,
    pub sessions: BTreeMap<Uuid, Held>,
    /// Sessions as they were reported, those included that were forgotten.
    pub ever: BTreeMap<Uuid, Held>,
    pub applied: Vec<(String, u64)>,
    pub closed: HashSet<String>,
    pub dropped: HashMap<String, u64>,
}

impl ModelDaemon {
    /// The first message of a stream; returns the number held.
    pub fn first(&mut self, message: &StreamReportsRequest) -> u64 {
        assert!((1..=128).contains(&message.client_id.len()));
        assert_eq!((message.sequence, message.columns.is_none()), (0, true));
        self.dropped.insert(message.client_id.clone(), message.dropped_reports);
        self.clients.get(&message.client_id).map_or(0, |known| known.last)
    }

    /// A batch; returns the number to acknowledge.
    pub fn batch(&mut self, client_id: &str, message: &StreamReportsRequest) -> u64 {
        let columns = message.columns.as_ref().expect("a batch has columns");
        let content = columns.encode_to_vec();
        assert!(message.sequence > 0 && !message.closing && message.reports.is_empty());
        assert!((1..=10_000).contains(&columns.app.len()));
        assert!(content.len() <= 4 << 20);
        self.dropped.insert(client_id.to_owned(), message.dropped_reports);
        let known = self.clients.entry(client_id.to_owned()).or_insert_with(|| KnownClient {
            last: message.sequence - 1, // of an unknown client the first number is taken as it comes
            ..KnownClient::default()
        });
        if message.sequence <= known.last {
            assert_eq!(known.contents.get(&message.sequence), Some(&content), "a number with other content");
            return known.last;
        }
        assert_eq!(message.sequence, known.last + 1, "a gap");
        known.last = message.sequence;
        known.contents.insert(message.sequence, content);
        self.applied.push((client_id.to_owned(), message.sequence));
        for (session_id, new) in rows(columns) {
            for store in [&mut self.sessions, &mut self.ever] {
                let held = store.entry(session_id).or_insert_with(|| new.clone());
                assert_eq!((&held.app, held.started_ns), (&new.app, new.started_ns));
                held.ended_ns = held.ended_ns.max(new.ended_ns);
                held.requests = held.requests.max(new.requests);
            }
        }
        message.sequence
    }

    /// The last word of a client.
    pub fn close(&mut self, client_id: &str, message: &StreamReportsRequest) {
        assert!(message.closing && message.sequence == 0 && message.columns.is_none());
        self.dropped.insert(client_id.to_owned(), message.dropped_reports);
        self.closed.insert(client_id.to_owned());
    }

    /// A daemon without a journal was started again.
    pub fn forget(&mut self) {
        self.clients.clear();
        self.sessions.clear();
    }
}
