//! Where tests make the disk fail.

use std::io;
use std::path::Path;

/// Asked before every read, write and sync of the log. In production it always agrees.
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

    /// Before a read of a file of the log.
    ///
    /// # Errors
    /// The fault to show.
    fn before_read(&self, file: &Path, offset: u64, len: usize) -> io::Result<()> {
        let _ = (file, offset, len);
        Ok(())
    }

    /// Before a sync of a file of the log.
    ///
    /// # Errors
    /// The fault to show.
    fn before_sync(&self, file: &Path) -> io::Result<()> {
        let _ = file;
        Ok(())
    }
}

/// No faults.
#[derive(Debug, Clone, Copy)]
pub struct NoFaults;

impl Faults for NoFaults {}
