//! How is the daemon reached? Target, credentials and the settings of a connection.
//!
//! Invariant: nothing is opened or started here before `connect`, so a client that has not begun to report survives a fork.
//! Each stream has a connection of its own, so there is no channel that waits for itself before it tries again.

use std::{error::Error, fs, io, path::Path, time::Duration};

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{core::Ending, invalid::Invalid, limits::Limits};

const CLIENT_KEY: &str = "appstats-client";
const CLIENT: &str = concat!("rust/", env!("CARGO_PKG_VERSION"));
const RETRY_DELAY_KEY: &str = "appstats-retry-delay-ms";

/// Mutual TLS: each is PEM.
#[derive(Clone)]
pub struct Tls {
    /// Certificates that the daemon's is checked against.
    pub ca: Vec<u8>,
    /// The client's own certificate, with its chain.
    pub certificate: Vec<u8>,
    /// The key of it.
    pub key: Vec<u8>,
}

impl Tls {
    /// Reads the three files.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn from_files(ca: impl AsRef<Path>, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { ca: fs::read(ca)?, certificate: fs::read(certificate)?, key: fs::read(key)? })
    }
}

/// Opens connections to one daemon.
pub(crate) struct Transport {
    endpoint: Endpoint,
    connect_timeout: Duration,
}

impl Transport {
    /// Fails where `target` is neither `unix:PATH` nor `HOST:PORT`, has TLS on a unix socket, or the PEM cannot be read.
    pub fn new(target: &str, tls: Option<&Tls>, limits: &Limits) -> Result<Self, Invalid> {
        let is_unix = target.strip_prefix("unix:").is_some_and(|path| !path.is_empty());
        if !is_unix && !is_host_and_port(target) {
            return Err(Invalid(format!("target is {target:?}; it has to be unix:PATH or HOST:PORT")));
        }
        if is_unix && tls.is_some() {
            let why = "TLS is for HOST:PORT, the mode of a unix socket says who may connect";
            return Err(Invalid(format!("target is {target:?}; {why}")));
        }
        let scheme = match tls {
            _ if is_unix => "",
            Some(_) => "https://",
            None => "http://",
        };
        let unusable = |error| Invalid(format!("target {target:?} cannot be used: {}", with_causes(&error)));
        let mut endpoint = Endpoint::from_shared(format!("{scheme}{target}"))
            .map_err(unusable)?
            .http2_keep_alive_interval(limits.keepalive_time)
            .keep_alive_timeout(limits.keepalive_timeout)
            .keep_alive_while_idle(true);
        if let Some(Tls { ca, certificate, key }) = tls {
            let identity = Identity::from_pem(certificate, key);
            let settings = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).identity(identity);
            endpoint = endpoint.tls_config(settings).map_err(unusable)?;
        }
        Ok(Self { endpoint, connect_timeout: limits.connect_timeout })
    }

    /// A connection of its own, within `connect_timeout`.
    pub async fn connect(&self) -> Result<Channel, Status> {
        match tokio::time::timeout(self.connect_timeout, self.endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(Status::unavailable(with_causes(&error))),
            Err(_) => Err(Status::unavailable(format!("no answer within {:?}", self.connect_timeout))),
        }
    }
}

/// Says who speaks.
pub(crate) fn introduce(metadata: &mut MetadataMap) {
    metadata.insert(CLIENT_KEY, MetadataValue::from_static(CLIENT));
}

/// What a status means for the protocol. One that tonic made of a broken connection is no word of the daemon's, however
/// much it looks like one (a GOAWAY for too many pings is RESOURCE_EXHAUSTED).
pub(crate) fn ending(status: &Status) -> Ending {
    match status.source() {
        Some(_) => Ending { status: Code::Unavailable, details: with_causes(status), retry_delay_ms: None },
        None => Ending {
            status: status.code(),
            details: status.message().to_owned(),
            retry_delay_ms: retry_delay_ms(status.metadata()),
        },
    }
}

/// What the daemon said about when to come back; `None`: nothing that can be read.
fn retry_delay_ms(trailing: &MetadataMap) -> Option<u64> {
    let said = trailing.get(RETRY_DELAY_KEY)?.to_str().ok()?;
    let is_decimal = !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| said.parse().unwrap_or(u64::MAX))
}

fn is_host_and_port(target: &str) -> bool {
    let Some((host, port)) = target.rsplit_once(':') else { return false };
    let is_bracketed = host.len() > 2 && host.starts_with('[') && host.ends_with(']');
    let is_name = !host.is_empty() && !host.contains([':', '/', '[', ']', '@', '?', '#']);
    (is_bracketed || is_name) && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// An error and what lies behind it, since tonic's own text is "transport error".
fn with_causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !told.contains(&more) {
            told = format!("{told}: {more}");
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_unix_path_or_a_host_and_a_port() {
        let make = |target: &str| Transport::new(target, None, &Limits::default()).map(|_| ());
        for target in ["unix:/run/appstatsd.sock", "unix:here", "localhost:7443", "127.0.0.1:1", "[::1]:7443"] {
            assert_eq!(make(target), Ok(()), "{target}");
        }
        for target in
            ["", "unix:", "localhost", ":1", "localhost:", "localhost:99999", "http://a:1", "::1:7443", "a:+1"]
        {
            assert!(make(target).unwrap_err().to_string().contains("unix:PATH or HOST:PORT"), "{target}");
        }
    }

    #[test]
    fn tls_is_not_for_unix_sockets_and_has_to_be_pem() {
        let tls = Tls { ca: b"none".to_vec(), certificate: b"none".to_vec(), key: b"none".to_vec() };
        let make = |target| Transport::new(target, Some(&tls), &Limits::default()).map(|_| ()).unwrap_err().to_string();
        assert!(make("unix:/run/appstatsd.sock").contains("TLS is for HOST:PORT"));
        assert!(make("localhost:7443").contains("cannot be used"));
    }

    #[test]
    fn a_delay_that_cannot_be_read_is_none() {
        for (said, delay) in [
            ("250", Some(250)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("soon", None),
            ("-5", None),
            ("+5", None),
            ("", None),
        ] {
            let mut trailing = MetadataMap::new();
            assert_eq!(retry_delay_ms(&trailing), None);
            trailing.insert(RETRY_DELAY_KEY, said.parse().unwrap());
            assert_eq!(retry_delay_ms(&trailing), delay, "{said}");
        }
    }
}
