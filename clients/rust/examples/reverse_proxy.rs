//! A small reverse proxy, HTTP and WebSockets through hyper, that reports to appstatsd who uses which app.
//!
//!     cargo run --example reverse_proxy -- 127.0.0.1:8080 http://127.0.0.1:9000 unix:/run/appstatsd/appstatsd.sock
//!
//! The arguments are where it listens, the app behind it, and the daemon.
//!
//! Who asks, and for what, comes in headers that whatever authenticates in front of this proxy sets (and strips from what came
//! from outside): `X-User-Id`, `X-Workspace-Id` and `X-Agent-Id`, each a UUID. A request without them is not let through. How
//! the app is reached stands in the URL:
//!
//! | request | access method | slug or port |
//! | --- | --- | --- |
//! | `/apps/SLUG/…`, passed on as `/…` | path | SLUG |
//! | Host `SLUG.apps.…` | subdomain | SLUG |
//! | `/terminal` | terminal | (empty) |
//!
//! A WebSocket is one session, reported when it opens and ended when it is over, however that comes about. Any other request
//! is a short session of its own, and none where nothing was used: a redirect, a 404, an upstream that is not there.

use std::{env, error::Error, sync::Arc};

use appstatsd_client::{AccessMethod, App, Begin, CLOSE_TIMEOUT, Client, Session};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn,
    header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE},
    server::conn::http1,
    service::service_fn,
    upgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

type Failure = Box<dyn Error + Send + Sync>;
type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Headers that are between two neighbors only.
const ONE_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Passes requests on to one upstream, and reports them.
struct Proxy {
    upstream: String,
    reporter: Client,
}

/// A session that is over when the answer has been passed on, or nobody wants the rest of it.
struct Used(Session);

impl Drop for Used {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Proxy {
    /// Passes one request on and reports it.
    async fn forward(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let (app, path) = match what_is_used(&request) {
            Ok(used) => used,
            Err((status, why)) => return Ok(plain(status, why)),
        };
        let is_websocket =
            request.headers().get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let passed = if is_websocket {
            self.forward_websocket(request, &app, path).await
        } else {
            self.forward_http(request, &app, path).await
        };
        Ok(passed.unwrap_or_else(|error| plain(StatusCode::BAD_GATEWAY, format!("the app does not answer: {error}\n"))))
    }

    /// One request, one short session.
    async fn forward_http(&self, request: Request<Incoming>, app: &App, path: Uri) -> Result<Answer, Failure> {
        // Nothing is reported before it ends: only the answer shows whether the app was used.
        let session = self.reporter.begin_with(app, Begin { report_live: false, ..Begin::default() })?;
        let answer = self.ask(passed_on(request, path), false).await?;
        let (mut head, body) = answer.into_parts();
        remove_one_hop(&mut head.headers);
        let is_redirect = matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        if is_redirect || head.status == StatusCode::NOT_FOUND {
            return Ok(Response::from_parts(head, body.boxed()));
        }
        let used = Used(session);
        let body = body.map_frame(move |frame| {
            let _in_use = &used;
            frame
        });
        Ok(Response::from_parts(head, body.boxed()))
    }

    /// One WebSocket, one session, from when it is open on both sides until it is over on one.
    async fn forward_websocket(&self, mut request: Request<Incoming>, app: &App, path: Uri) -> Result<Answer, Failure> {
        let browser = upgrade::on(&mut request);
        let mut outgoing = passed_on(request, path);
        ask_for_websocket(outgoing.headers_mut());
        let mut answer = self.ask(outgoing, true).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer.map(BodyExt::boxed));
        }
        let upstream = upgrade::on(&mut answer);
        let session = self.reporter.begin(app);
        tokio::spawn(async move {
            if let (Ok(browser), Ok(upstream)) = tokio::join!(browser, upstream) {
                // However it ends, and be it with an error, it has ended.
                let _ = copy_bidirectional(&mut TokioIo::new(browser), &mut TokioIo::new(upstream)).await;
            }
            drop(session);
        });
        let mut head = answer.into_parts().0;
        remove_one_hop(&mut head.headers);
        ask_for_websocket(&mut head.headers);
        Ok(Response::from_parts(head, Full::default().map_err(|never| match never {}).boxed()))
    }

    /// What the app answers, over a connection of its own.
    async fn ask(&self, mut request: Request<Incoming>, may_upgrade: bool) -> Result<Response<Incoming>, Failure> {
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.upstream)?);
        let stream = TcpStream::connect(&self.upstream).await?;
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
        // A connection that fails fails its request, too, so its own word is not waited for.
        if may_upgrade {
            tokio::spawn(connection.with_upgrades());
        } else {
            tokio::spawn(connection);
        }
        Ok(sender.send_request(request).await?)
    }
}

/// The app that a request is for, and the path to ask the upstream for; else the status and the reason to answer with.
fn what_is_used(request: &Request<Incoming>) -> Result<(App, Uri), (StatusCode, String)> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |whole| whole.as_str());
    let mut host = header("host").split('.');
    let (method, slug, path) = if let (Some(slug), Some("apps")) = (host.next(), host.next()) {
        (AccessMethod::Subdomain, slug, path.to_owned())
    } else if let Some(rest) = path.strip_prefix("/apps/") {
        let (slug, rest) = rest.split_once('/').unwrap_or((rest, ""));
        (AccessMethod::Path, slug, format!("/{rest}"))
    } else if request.uri().path() == "/terminal" {
        (AccessMethod::Terminal, "", path.to_owned())
    } else {
        return Err((StatusCode::NOT_FOUND, "no app; ask for /apps/SLUG/, SLUG.apps.HOST or /terminal\n".into()));
    };
    let [user, workspace, agent] = ["x-user-id", "x-workspace-id", "x-agent-id"].map(header);
    let app = App::new(user, workspace, agent, method, slug)
        .map_err(|error| (StatusCode::UNAUTHORIZED, format!("{error}\n")))?;
    let path = path.parse().map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    Ok((app, path))
}

fn passed_on(mut request: Request<Incoming>, path: Uri) -> Request<Incoming> {
    *request.uri_mut() = path;
    remove_one_hop(request.headers_mut());
    request
}

/// Removes headers of one hop, and those that `Connection` names.
fn remove_one_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in ONE_HOP {
        headers.remove(name);
    }
}

fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn plain(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, upstream, appstatsd] = arguments.as_slice() else {
        return Err("usage: reverse_proxy HOST:PORT http://HOST:PORT unix:PATH".into());
    };
    let upstream = upstream.strip_prefix("http://").ok_or("the upstream has to be http://HOST:PORT")?;
    let upstream = upstream.trim_end_matches('/').to_owned();
    let proxy = Arc::new(Proxy { upstream, reporter: Client::new(appstatsd)? });
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let own = proxy.clone();
        tokio::spawn(async move {
            let serve = service_fn(|request| own.forward(request));
            // A browser that goes away in the middle ends its own sessions alone.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).with_upgrades().await;
        });
    }
    proxy.reporter.close(CLOSE_TIMEOUT).await;
    Ok(())
}
