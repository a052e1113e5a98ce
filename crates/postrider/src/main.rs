//! The binary `postrider`: see the library of the same name.

use std::process::ExitCode;

use clap::Parser;
use postrider::cli::Cli;

/// Mail is many small allocations on many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status of what could not be done; also that of a wrong command line.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    postrider_tls::install_default_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(Box::pin(postrider::run(cli))) {
        Ok(status) => status,
        Err(error) if postrider::out::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    anstream::eprintln!("postrider: {error:#}");
    ExitCode::from(FAILED)
}
