//! What time is it? The two clocks of a client, as one parameter.
//!
//! Starts come from the wall clock, everything that passes from the monotonic one, so a step of the wall clock makes no
//! session negative or days long.

use std::{
    sync::OnceLock,
    time::{Instant, SystemTime},
};

use crate::limits::nanoseconds;

/// A wall clock and a monotonic clock.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the Unix epoch, UTC.
    fn wall_ns(&self) -> u64;
    /// Nanoseconds that never run backwards.
    fn monotonic_ns(&self) -> u64;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> u64 {
        nanoseconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    fn monotonic_ns(&self) -> u64 {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        nanoseconds(ORIGIN.get_or_init(Instant::now).elapsed())
    }
}
