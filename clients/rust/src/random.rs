//! Where do ids come from? Random bytes of the operating system, fetched a few hundred at a time.
//!
//! Invariant: no byte is given out twice. An [`Entropy`] belongs to one process: it is empty until that one begins to report.

use uuid::{Builder, Uuid};

const HELD_BYTES: usize = 1024;

/// Random bytes of the operating system.
pub(crate) struct Entropy {
    bytes: [u8; HELD_BYTES],
    used: usize,
}

impl Entropy {
    pub fn new() -> Self {
        Self { bytes: [0; HELD_BYTES], used: HELD_BYTES }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > HELD_BYTES {
            getrandom::fill(&mut self.bytes).expect("the operating system has random bytes once it is up");
            self.used = 0;
        }
        let taken = self.bytes[self.used..self.used + N].try_into().expect("a slice of N bytes is an array of N bytes");
        self.used += N;
        taken
    }

    /// A random UUID (version 4).
    pub fn session_id(&mut self) -> Uuid {
        Builder::from_random_bytes(self.take()).into_uuid()
    }

    /// 128 random bits in hexadecimal.
    pub fn client_id(&mut self) -> String {
        format!("{:032x}", u128::from_ne_bytes(self.take()))
    }

    /// A number between 0 and 1.
    pub fn fraction(&mut self) -> f64 {
        (u64::from_ne_bytes(self.take()) >> 11) as f64 / (1u64 << 53) as f64
    }
}
