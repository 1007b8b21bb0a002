//! A daemon for the tests of the shell: real gRPC, real sockets, and statuses on demand.
//!
//! It keeps the rules of [`ModelDaemon`], and does once for each entry of its script what the entry says. Tests wait on what it
//! has seen, with a deadline.

use std::{
    collections::VecDeque,
    env, fs,
    path::PathBuf,
    process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    net::UnixListener,
    runtime,
    sync::{mpsc, oneshot, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::model_daemon::ModelDaemon;
use crate::wire::{
    FlushRequest, FlushResponse, GetStatusRequest, GetStatusResponse, RejectedReport, StreamReportsRequest,
    StreamReportsResponse,
    session_report_service_server::{SessionReportService, SessionReportServiceServer},
};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Which message meets a refusal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    First,
    Batch,
    Closing,
}

/// Ends a stream with this status.
#[derive(Clone, Debug)]
pub struct Refuse {
    pub status: Code,
    pub at: At,
    pub retry_delay_ms: Option<u64>,
    /// Whether what it meets is applied before: an acknowledgement that is lost.
    pub apply: bool,
}

impl Refuse {
    pub fn with(status: Code, at: At) -> Self {
        Self { status, at, retry_delay_ms: None, apply: false }
    }
}

/// What happened so far, and what is to happen.
#[derive(Default)]
pub struct Seen {
    pub model: ModelDaemon,
    pub script: VecDeque<Refuse>,
    pub messages: Vec<StreamReportsRequest>,
    pub clients: Vec<String>,
    pub refused: usize,
    pub rejections: Vec<RejectedReport>,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    may_answer: watch::Sender<bool>,
}

/// A gRPC server of the one rpc that clients use, on a unix socket of its own.
pub struct ScriptedDaemon {
    shared: Arc<Shared>,
    folder: PathBuf,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl ScriptedDaemon {
    /// One that does not run yet.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("appstatsd-client-{}-{number}", process::id()));
        fs::create_dir(&folder).unwrap();
        let shared = Shared { seen: Mutex::default(), changed: Condvar::new(), may_answer: watch::channel(true).0 };
        Self { shared: Arc::new(shared), folder, running: None }
    }

    pub fn started() -> Self {
        let mut daemon = Self::new();
        daemon.start();
        daemon
    }

    pub fn target(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("daemon.sock")
    }

    /// Listens, again if it was stopped.
    pub fn start(&mut self) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(self.socket()).unwrap()
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let service = SessionReportServiceServer::new(Service(self.shared.clone()));
        let thread = thread::spawn(move || {
            // What is told to stop ends with all its streams, as a killed process does.
            runtime.block_on(async move {
                tokio::select! { () = listen(listener, service) => {} _ = stopped => {} }
            });
        });
        self.running = Some((stop, thread));
    }

    /// Ends all streams; returns when nothing of it runs any more.
    pub fn stop(&mut self) {
        self.shared.may_answer.send_replace(true);
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
            let _ = fs::remove_file(self.socket());
        }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap()
    }

    pub fn hold_answers(&self) {
        self.shared.may_answer.send_replace(false);
    }

    pub fn release_answers(&self) {
        self.shared.may_answer.send_replace(true);
    }

    /// Waits until what was seen satisfies the condition; fails the test at the deadline.
    pub fn wait_for(&self, mut fits: impl FnMut(&Seen) -> bool) {
        let waited = self.shared.changed.wait_timeout_while(self.seen(), DEADLINE, |seen| !fits(seen)).unwrap();
        assert!(!waited.1.timed_out(), "it did not come within {DEADLINE:?}");
    }
}

impl Drop for ScriptedDaemon {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn listen(listener: UnixListener, service: SessionReportServiceServer<Service>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(service.clone());
        // A client that goes away in the middle is what some tests are about.
        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
    }
}

struct Service(Arc<Shared>);

type Answers = mpsc::Sender<Result<StreamReportsResponse, Status>>;

#[tonic::async_trait]
impl SessionReportService for Service {
    type StreamReportsStream = ReceiverStream<Result<StreamReportsResponse, Status>>;

    async fn stream_reports(
        &self,
        request: Request<Streaming<StreamReportsRequest>>,
    ) -> Result<Response<Self::StreamReportsStream>, Status> {
        let client = request.metadata().get("appstats-client").map(|value| value.to_str().unwrap().to_owned());
        self.0.seen.lock().unwrap().clients.extend(client);
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(serve(self.0.clone(), request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn flush(&self, _: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        Err(Status::unimplemented("no test flushes"))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
}

async fn serve(shared: Arc<Shared>, mut messages: Streaming<StreamReportsRequest>, answers: Answers) {
    let mut client_id = String::new();
    let mut may_answer = shared.may_answer.subscribe();
    while let Ok(Some(message)) = messages.message().await {
        let is_closing = message.closing;
        let answer = answer(&mut shared.seen.lock().unwrap(), &mut client_id, message);
        shared.changed.notify_all();
        let _ = may_answer.wait_for(|may| *may).await;
        let is_refused = answer.is_err();
        if !(is_closing && answer.is_ok()) && answers.send(answer).await.is_err() {
            return;
        }
        if is_closing || is_refused {
            return;
        }
    }
}

fn answer(
    seen: &mut Seen,
    client_id: &mut String,
    message: StreamReportsRequest,
) -> Result<StreamReportsResponse, Status> {
    let at = match message.closing {
        true => At::Closing,
        false if client_id.is_empty() => At::First,
        false => At::Batch,
    };
    let refusal = if seen.script.front().is_some_and(|next| next.at == at) { seen.script.pop_front() } else { None };
    let mut response = StreamReportsResponse::default();
    if refusal.as_ref().is_none_or(|refusal| refusal.apply) {
        match at {
            At::First => {
                *client_id = message.client_id.clone();
                response.acked_sequence = seen.model.first(&message);
            }
            At::Batch => {
                response.acked_sequence = seen.model.batch(client_id, &message);
                response.rejected.append(&mut seen.rejections);
            }
            At::Closing => seen.model.close(client_id, &message),
        }
    }
    seen.messages.push(message);
    let Some(refusal) = refusal else { return Ok(response) };
    seen.refused += 1;
    let mut trailing = MetadataMap::new();
    if let Some(delay_ms) = refusal.retry_delay_ms {
        trailing.insert("appstats-retry-delay-ms", delay_ms.to_string().parse().unwrap());
    }
    Err(Status::with_metadata(refusal.status, "as the script says", trailing))
}
