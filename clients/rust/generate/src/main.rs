//! Which Rust code goes with `proto/`? Written from what `protoc` made of it, so that no other plugin is needed.
//!
//!     cargo run --package generate -- DESCRIPTOR_SET OUT_DIR

use std::{env, error::Error, fs};

use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [descriptors, out_dir] = arguments.as_slice() else {
        return Err("usage: generate DESCRIPTOR_SET OUT_DIR".into());
    };
    let descriptors = FileDescriptorSet::decode(fs::read(descriptors)?.as_slice())?;
    fs::create_dir_all(out_dir)?;
    tonic_prost_build::configure()
        .out_dir(out_dir)
        .build_transport(false)
        .server_mod_attribute(".", "#[cfg(test)]") // a daemon is played by this crate's own tests alone
        .compile_fds(descriptors)?;
    Ok(())
}
