//! The release binaries, and what they took.

use std::time::Instant;

use crate::report::seconds;
use crate::shell::{self, cargo};

/// The verb.
///
/// # Errors
/// It does not build.
pub(crate) fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    shell::run(&mut cargo(&[
        "build",
        "--workspace",
        "--bins",
        "--release",
        "--locked",
    ]))?;
    println!("\nbuilt in {}", seconds(started.elapsed()));
    let folder = shell::target().join("release");
    for name in ["", "-edge", "-queue", "-delivery", "-mailbox"] {
        let path = folder.join(format!("postrider{name}"));
        if let Ok(file) = path.metadata() {
            println!("{:>6.1} MB  {}", file.len() as f64 / 1e6, path.display());
        }
    }
    Ok(())
}
