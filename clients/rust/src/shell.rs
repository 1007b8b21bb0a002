//! How do reports leave a proxy? The shell around the core: one thread with a runtime of its own, which no handler of the
//! proxy can hold up and which holds up none.
//!
//! The thread `appstatsd-client` opens streams, one after another; on each it reads answers and writes what goes out.
//!
//! Invariant: no lock is held over I/O or an await; the thread ends when the core is done or the time for closing is up.

use std::{convert::Infallible, future, sync::Arc, thread, time::Duration};

use tokio::{
    runtime, select,
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{self, Instant},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, transport::Channel};
use tracing::error;

use crate::{
    core::{Core, Ending},
    session::{Inside, Reporter},
    transport::{ending, introduce},
    wire::{StreamReportsRequest, session_report_service_client::SessionReportServiceClient},
};

/// The first session begins. The lock is held.
pub(crate) fn start(reporter: &Arc<Reporter>, inside: &mut Inside) {
    if inside.core.done {
        return;
    }
    let own = reporter.clone();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let started = runtime.and_then(|runtime| {
        thread::Builder::new().name("appstatsd-client".into()).spawn(move || {
            let shell = Shell(own);
            runtime.block_on(shell.run());
            drop(runtime); // connections end before whoever closes hears of it
            shell.leave();
        })
    });
    match started {
        Ok(thread) => (inside.thread, inside.is_running) = (Some(thread), true),
        Err(reason) => {
            // No more threads or files: the proxy must not suffer.
            error!("cannot report sessions: {reason}; the client stays silent until it is closed");
            inside.core.abandon();
        }
    }
}

#[derive(Clone)]
struct Shell(Arc<Reporter>);

impl Shell {
    async fn run(&self) {
        select! {
            () = self.report_for_ever() => {}
            () = self.is_over() => {}
        }
        self.0.inside().core.abandon();
        self.0.tell_events();
    }

    fn leave(&self) {
        self.0.inside().is_running = false;
        self.0.changed.notify_waiters();
    }

    /// Waits until there is nothing more to do, or no time for it.
    async fn is_over(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let close_by = {
                let inside = self.0.inside();
                if inside.core.done {
                    return;
                }
                inside.close_by
            };
            match close_by {
                None => changed.await,
                Some(at) => select! {
                    () = changed => {}
                    () = time::sleep_until(Instant::from_std(at)) => return,
                },
            }
        }
    }

    /// Opens streams, one after another, until the core is done.
    async fn report_for_ever(&self) {
        while !self.0.inside().core.done {
            self.when(|core, now_ns| if now_ns < core.connect_at_ns { Err(Some(core.connect_at_ns)) } else { Ok(()) })
                .await;
            let own = self.clone();
            let mut stream = JoinSet::new(); // a task, so that a panic costs a stream and no more
            stream.spawn(async move { own.report().await });
            let Some(ended) = stream.join_next().await else { return };
            let ending = ended.unwrap_or_else(|reason| given_up(&reason));
            let now_ns = self.0.clock.monotonic_ns();
            self.0.inside().core.ended(ending, now_ns);
            self.0.tell_events();
        }
    }

    /// Opens a stream and lives through it.
    async fn report(&self) -> Ending {
        let channel = match self.0.transport.connect().await {
            Ok(channel) => channel,
            Err(status) => return ending(&status),
        };
        let (outgoing, messages) = mpsc::channel(1);
        let now_ns = self.0.clock.monotonic_ns();
        let first = self.0.inside().core.opened(now_ns);
        let mut request = Request::new(ReceiverStream::new(messages));
        introduce(request.metadata_mut());
        select! {
            ending = self.read(SessionReportServiceClient::new(channel), request) => ending,
            never = self.write(first, outgoing) => match never {},
        }
    }

    /// Hears what the daemon says on one stream, until it ends.
    async fn read(
        &self,
        mut daemon: SessionReportServiceClient<Channel>,
        request: Request<ReceiverStream<StreamReportsRequest>>,
    ) -> Ending {
        let mut answers = match daemon.stream_reports(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return ending(&status),
        };
        loop {
            match answers.message().await {
                Ok(Some(response)) => {
                    let now_ns = self.0.clock.monotonic_ns();
                    let is_ours = self.0.inside().core.answered(response, now_ns);
                    self.0.changed.notify_waiters();
                    self.0.tell_events();
                    if !is_ours {
                        return Ending { status: Code::Cancelled, details: String::new(), retry_delay_ms: None };
                    }
                }
                Ok(None) => return Ending { status: Code::Ok, details: String::new(), retry_delay_ms: None },
                Err(status) => return ending(&status),
            }
        }
    }

    /// Says what goes out on one stream, as soon as it may and there is room for it. It does not end before the stream, whose
    /// reader gets the reason.
    async fn write(&self, first: StreamReportsRequest, outgoing: mpsc::Sender<StreamReportsRequest>) -> Infallible {
        let mut next = Some(first);
        while let Ok(room) = outgoing.reserve().await {
            let message = match next.take() {
                Some(first) => first,
                None => self.next_message().await,
            };
            room.send(message);
        }
        future::pending().await
    }

    async fn next_message(&self) -> StreamReportsRequest {
        self.when(|core, now_ns| core.next_message(now_ns).ok_or_else(|| core.look_again_at_ns())).await
    }

    /// Looks again whenever something has changed, and at the time that the look before named, until it finds something.
    async fn when<T>(&self, mut look: impl FnMut(&mut Core, u64) -> Result<T, Option<u64>>) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now_ns = self.0.clock.monotonic_ns();
            let looked = look(&mut self.0.inside().core, now_ns);
            match looked {
                Ok(found) => return found,
                Err(None) => changed.await,
                Err(Some(at_ns)) => select! {
                    () = changed => {}
                    () = time::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns))) => {}
                },
            }
        }
    }
}

/// How a stream has ended that a panic of ours has ended.
fn given_up(reason: &JoinError) -> Ending {
    error!("the stream to appstatsd is given up; another one follows: {reason}");
    Ending { status: Code::Unknown, details: reason.to_string(), retry_delay_ms: None }
}
