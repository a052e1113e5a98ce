//! Generates the gRPC types from `proto/`, without a system `protoc`.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from("../../proto");
    let files = [
        "postrider/queue/v1/message.proto",
        "postrider/queue/v1/queue.proto",
        "postrider/queue/v1/admin.proto",
        "postrider/queue/v1/export.proto",
        "postrider/mailbox/v1/mailbox.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(files, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Bodies are shared, not copied, on their way through a process.
        .bytes(".")
        // It holds a password, and what can be printed will be printed. See `src/secret.rs`.
        .skip_debug(["postrider.mailbox.v1.AuthenticateRequest"])
        .compile_fds(descriptors)?;
    Ok(())
}
