//! Where tests make the disk fail.

use std::io;

/// Asked before every write and sync of the log. In production it always agrees.
pub trait Faults: Send + Sync + 'static {
    /// Before a write of `len` bytes: an error fails it, `Some(n)` writes only the first `n` bytes
    /// and then fails it.
    ///
    /// # Errors
    /// The fault to show.
    fn before_write(&self, len: usize) -> io::Result<Option<usize>> {
        let _ = len;
        Ok(None)
    }

    /// Before a sync.
    ///
    /// # Errors
    /// The fault to show.
    fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// No faults.
#[derive(Debug, Clone, Copy)]
pub struct NoFaults;

impl Faults for NoFaults {}
