#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod app;
mod batch;
mod buffer;
mod client;
mod clock;
mod core;
mod events;
mod invalid;
mod limits;
mod random;
mod report;
mod session;
mod shell;
#[cfg(test)]
mod tests;
mod transport;
mod wire;

pub use crate::{
    app::{AccessMethod, App, IntoId},
    client::{Client, ClientBuilder},
    clock::{Clock, SystemClock},
    core::Stats,
    events::{Event, Rejection},
    invalid::Invalid,
    limits::{CLOSE_TIMEOUT, Limits},
    session::{Begin, Session},
    transport::Tls,
};
