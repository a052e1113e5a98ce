//! SIGTERM and SIGINT: the first one stops gently, the second at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status after a second signal: 128 and SIGINT, as shells count.
const AT_ONCE: i32 = 130;

/// SIGTERM and SIGINT.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over from here on.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Cancels `stop` at the first signal; at the second, ends the process where it stands. That
    /// is safe: what was acknowledged is durable, and what was not is sent again by its owner.
    pub async fn run(mut self, stop: CancellationToken) {
        let name = self.next().await;
        tracing::info!(signal = name, "stopping gently; once more stops at once");
        stop.cancel();
        let name = self.next().await;
        tracing::warn!(signal = name, "stopping at once");
        std::process::exit(AT_ONCE);
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
