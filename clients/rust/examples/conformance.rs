//! What does the Rust client do when it is told? The command of the conformance suite, whose README has its instructions.
//!
//! Invariant: each line of input is answered by one line of output, before the next one is carried out.

use std::{
    collections::HashMap,
    error::Error,
    io::{self, BufRead, Write},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use appstatsd_client::{
    AccessMethod, App, Begin, CLOSE_TIMEOUT, Client, Clock, Event, Limits, Session, SystemClock, Tls,
};
use serde_json::{Value, json};
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

type Answer = Result<Value, Box<dyn Error>>;

/// The machine's clocks, the wall clock moved by the steps that were told.
#[derive(Clone, Default)]
struct SteppedClock(Arc<AtomicI64>);

impl Clock for SteppedClock {
    fn wall_ns(&self) -> u64 {
        SystemClock.wall_ns().saturating_add_signed(self.0.load(Ordering::Relaxed))
    }

    fn monotonic_ns(&self) -> u64 {
        SystemClock.monotonic_ns()
    }
}

/// One client, and sessions by name.
#[derive(Default)]
struct Command {
    client: Option<Client>,
    clock: SteppedClock,
    sessions: HashMap<String, Session>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Command {
    fn carry_out(&mut self, told: &Value) -> Answer {
        match text(told, "do")? {
            "open" => self.open(told),
            "begin" => self.begin(told),
            "update" => {
                self.session(told)?.update(whole(&told["requests"])?);
                Ok(json!({}))
            }
            "end" => {
                self.session(told)?.end();
                Ok(json!({}))
            }
            "stats" => Ok(stats(self.client()?)),
            "events" => Ok(json!({"events": self.events.lock().unwrap().split_off(0)})),
            "step_wall" => {
                let step = told["seconds"].as_f64().ok_or("seconds is no number")?;
                self.clock.0.fetch_add((step * 1e9) as i64, Ordering::Relaxed);
                Ok(json!({}))
            }
            "close" => Ok(json!({"confirmed": self.client()?.blocking_close(seconds(&told["timeout_seconds"])?)})),
            "bench" => bench(told),
            unknown => Err(format!("{unknown:?} is no instruction").into()),
        }
    }

    fn open(&mut self, told: &Value) -> Answer {
        let events = self.events.clone();
        let mut builder = Client::builder(text(told, "target")?)
            .limits(limits(&told["limits"])?)
            .on_event(move |event| events.lock().unwrap().push(as_json(event)))
            .clock(self.clock.clone());
        if let tls @ Value::Object(_) = &told["tls"] {
            builder = builder.tls(Tls::from_files(text(tls, "ca")?, text(tls, "certificate")?, text(tls, "key")?)?);
        }
        self.client = Some(builder.build()?);
        Ok(json!({}))
    }

    fn begin(&mut self, told: &Value) -> Answer {
        let app = &told["app"];
        let access_method = match text(app, "access_method")? {
            "path" => AccessMethod::Path,
            "subdomain" => AccessMethod::Subdomain,
            "terminal" => AccessMethod::Terminal,
            unknown => return Err(format!("access_method is {unknown:?}").into()),
        };
        let [user, workspace, agent] = [text(app, "user_id")?, text(app, "workspace_id")?, text(app, "agent_id")?];
        let app = App::new(user, workspace, agent, access_method, text(app, "slug_or_port")?)?;
        let options = Begin {
            requests: told.get("requests").map_or(Ok(1), whole)?,
            report_live: told["report_live"].as_bool().unwrap_or(true),
            session_id: told["session_id"].as_str().map(str::parse).transpose()?,
            started_ns: told["started_ns"].as_u64(),
        };
        let session = self.client()?.begin_with(&app, options)?;
        let session_id = session.session_id();
        self.sessions.insert(text(told, "session")?.to_owned(), session);
        Ok(json!({"session_id": session_id.to_string()}))
    }

    fn client(&self) -> Result<&Client, &'static str> {
        self.client.as_ref().ok_or("there is no client yet")
    }

    fn session(&self, told: &Value) -> Result<&Session, Box<dyn Error>> {
        Ok(self.sessions.get(text(told, "session")?).ok_or("there is no session of that name")?)
    }
}

fn text<'a>(told: &'a Value, name: &str) -> Result<&'a str, String> {
    told[name].as_str().ok_or_else(|| format!("{name} is no text"))
}

fn whole<T: TryFrom<u64>>(value: &Value) -> Result<T, String> {
    value.as_u64().and_then(|number| T::try_from(number).ok()).ok_or_else(|| format!("{value} is no such number"))
}

fn seconds(value: &Value) -> Result<Duration, String> {
    let number = value.as_f64().ok_or_else(|| format!("{value} is no number"))?;
    Duration::try_from_secs_f64(number).map_err(|error| format!("{value}: {error}"))
}

fn limits(told: &Value) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for (name, value) in told.as_object().into_iter().flatten() {
        match name.as_str() {
            "batch_max_reports" => limits.batch_max_reports = whole(value)?,
            "batch_max_bytes" => limits.batch_max_bytes = whole(value)?,
            "linger_seconds" => limits.linger = seconds(value)?,
            "window_batches" => limits.window_batches = whole(value)?,
            "max_live_sessions" => limits.max_live_sessions = whole(value)?,
            "max_pending_reports" => limits.max_pending_reports = whole(value)?,
            "backoff_base_seconds" => limits.backoff_base = seconds(value)?,
            "backoff_max_seconds" => limits.backoff_max = seconds(value)?,
            "channel_backoff_max_seconds" => {} // no channel here waits for itself
            "connect_timeout_seconds" => limits.connect_timeout = seconds(value)?,
            "retry_slowest_seconds" => limits.retry_slowest = seconds(value)?,
            "refused_retry_seconds" => limits.refused_retry = seconds(value)?,
            "keepalive_time_seconds" => limits.keepalive_time = seconds(value)?,
            "keepalive_timeout_seconds" => limits.keepalive_timeout = seconds(value)?,
            unknown => return Err(format!("{unknown} is no limit")),
        }
    }
    Ok(limits)
}

/// An event as the instructions want it.
fn as_json(event: &Event) -> Value {
    match event {
        Event::Connected { .. } => json!({"event": "Connected"}),
        Event::Disconnected { status, retry_in, .. } => {
            json!({"event": "Disconnected", "status": status, "retry_seconds": retry_in.as_secs_f64()})
        }
        Event::Rejected { rejections } => {
            let reasons: Vec<_> = rejections.iter().map(|rejection| &rejection.reason).collect();
            json!({"event": "Rejected", "reasons": reasons})
        }
        Event::BatchRefused { status, reports, dropped, .. } => {
            json!({"event": "BatchRefused", "status": status, "reports": reports, "dropped": dropped})
        }
        Event::Dropped { reports, .. } => json!({"event": "Dropped", "reports": reports}),
        Event::ClientIdReplaced { status, .. } => json!({"event": "ClientIdReplaced", "status": status}),
        Event::Closed { confirmed, left } => json!({"event": "Closed", "confirmed": confirmed, "left": left}),
        other => json!({"event": format!("{other:?}")}),
    }
}

fn stats(client: &Client) -> Value {
    let stats = client.stats();
    json!({
        "client_id": stats.client_id,
        "connected": stats.connected,
        "live_sessions": stats.live_sessions,
        "pending_reports": stats.pending_reports,
        "unacknowledged_reports": stats.unacknowledged_reports,
        "acknowledged_reports": stats.acknowledged_reports,
        "rejected_reports": stats.rejected_reports,
        "dropped_reports": stats.dropped_reports,
    })
}

fn bench(told: &Value) -> Answer {
    let target = text(told, "target")?;
    let (rounds, pairs): (usize, u32) = (whole(&told["rounds"])?, whole(&told["pairs"])?);
    let calls: usize = whole(&told["calls"])?;
    let client = Client::new(target)?;
    let app = App::new([1; 16], [2; 16], [3; 16], AccessMethod::Path, "bench")?;
    let mut costs: Vec<u64> = (0..=rounds).map(|_| one_round(&client, &app, pairs)).collect();
    client.blocking_close(CLOSE_TIMEOUT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = runtime.block_on(unary_calls(target, calls))?;
    Ok(json!({
        "begin_end_ns": median(&mut costs[1..]),
        "unary_call_ns": median(&mut times[calls / 10..]),
    }))
}

/// What begin and end of one session cost, in nanoseconds; then waits until all is acknowledged.
fn one_round(client: &Client, app: &App, pairs: u32) -> u64 {
    let began = Instant::now();
    for _ in 0..pairs {
        client.begin(app).end();
    }
    let cost = began.elapsed() / pairs;
    let is_busy = || {
        let stats = client.stats();
        stats.pending_reports + stats.unacknowledged_reports > 0
    };
    while is_busy() {
        thread::sleep(Duration::from_millis(10));
    }
    cost.as_nanos() as u64
}

/// What each of so many calls of the health check cost, in nanoseconds.
async fn unary_calls(target: &str, calls: usize) -> Result<Vec<u64>, Box<dyn Error>> {
    let uri = if target.starts_with("unix:") { target.to_owned() } else { format!("http://{target}") };
    let mut grpc = Grpc::new(Endpoint::from_shared(uri)?.connect().await?);
    let mut times = Vec::new();
    for _ in 0..calls + calls / 10 {
        let began = Instant::now();
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        grpc.unary(Request::new(()), path, ProstCodec::<(), ()>::default()).await?;
        times.push(began.elapsed().as_nanos() as u64);
    }
    Ok(times)
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut command = Command::default();
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let told = serde_json::from_str(&line?)?;
        let answer = command.carry_out(&told).unwrap_or_else(|error| json!({"error": error.to_string()}));
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    process::exit(0) // at once, and without closing the client
}
