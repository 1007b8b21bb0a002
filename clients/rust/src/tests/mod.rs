//! The core against the protocol's page, the shell against a daemon that does as it is told.

mod clients;
mod core;
mod fork;
mod model_daemon;
mod network;
mod scripted_daemon;
mod values;
