//! Mail on disk: one Maildir an account.
//!
//! Lives here: what files and folders are called (`name`), how a message gets to disk so that it
//! survives power loss (`maildir`, `draft`, `dirsync`), how a repeated delivery is recognised
//! (`seen`), what a POP3 session sees and deletes (`maildrop`), and the sweeping of what crashes
//! leave (`sweep`). Every call here blocks; callers give it a thread.
//!
//! Messages lie on disk byte for byte as they were received, with CRLF line ends, after a
//! Return-Path line. So POP3 streams them as they are and knows their sizes from their names.

mod dirsync;
mod draft;
mod maildir;
mod maildrop;
mod name;
mod seen;
mod sweep;
mod wire;

pub(crate) use draft::Draft;
pub(crate) use maildir::{Maildirs, Stored};
pub(crate) use maildrop::{Entry, Locked, Maildrop};
pub(crate) use wire::{Part, WireEncoder};
