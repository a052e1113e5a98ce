//! A message on its way to disk.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::wire::WireSize;

/// A file in a `tmp` folder, which is deleted when this is dropped: a message that was not
/// finished leaves nothing.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
    /// It was renamed away, so that there is nothing to delete.
    moved: bool,
    size: u64,
    wire: WireSize,
}

impl Draft {
    /// Makes the file. The name must be unique.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            file,
            path,
            moved: false,
            size: 0,
            wire: WireSize::default(),
        })
    }

    /// Appends pieces of content, where possible in one system call.
    pub(crate) fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(pieces.len());
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            self.size += piece.len() as u64;
            self.wire.feed(piece);
            slices.push(IoSlice::new(piece));
        }
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the content durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Octets on disk.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Octets on the wire.
    pub(crate) fn wire_size(&self) -> u64 {
        self.wire.octets()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for copies that the kernel makes.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Says that the file has been renamed.
    pub(crate) fn was_moved(&mut self) {
        self.moved = true;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.moved
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            // The sweep will get it.
            tracing::debug!(path = %self.path.display(), %error, "cannot delete an unfinished delivery");
        }
    }
}
