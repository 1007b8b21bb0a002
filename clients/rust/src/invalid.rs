//! What is wrong at every call alike? The one error that a client gives its proxy.

use std::{error::Error, fmt};

/// Something that the proxy passed cannot be, whatever the daemon does: it says what, its value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub(crate) String);

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for Invalid {}
