//! The messages and stubs of `proto/`, as `make generate` writes them.

#![allow(dead_code, missing_docs, rustdoc::all, clippy::all)]

include!("generated/appstats.v1.rs");
