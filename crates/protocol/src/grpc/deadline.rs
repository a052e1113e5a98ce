//! How long a call may take. Every call has a deadline; the callee learns it and gives up too.

use std::time::Duration;

/// A connection, its TLS handshake included.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// A question that is answered from memory or by one look at a disk.
pub(super) const QUICK: Duration = Duration::from_secs(10);
/// Something that is durable when it returns. Generous towards a busy disk, and well below the
/// ten minutes for which a client waits after its final dot (RFC 5321 section 4.5.3.2.6).
pub(super) const DURABLE: Duration = Duration::from_secs(60);
/// A body of any size, at the pace of whoever sends it; its pieces have deadlines of their own.
pub(super) const BODY: Duration = Duration::from_secs(6 * 3600);
/// The next piece of a body that is still coming in: a client may pause for three minutes within
/// its content (RFC 5321 section 4.5.3.2.5).
pub(super) const PIECE_OF_A_CLIENT: Duration = Duration::from_secs(300);
/// The next piece of a body that is stored.
pub(super) const PIECE_OF_A_STORE: Duration = Duration::from_secs(60);
/// An act of an operator, which may touch everything that is queued.
pub(super) const ACT: Duration = Duration::from_secs(300);
/// How often an idle connection is probed, and how long the answer may take: a peer that vanished
/// without a word is noticed in the sum of both.
pub(super) const PROBE: Duration = Duration::from_secs(10);
pub(super) const PROBE_ANSWER: Duration = Duration::from_secs(5);
/// Waits between tries to reach a neighbour that restarts: the first, and the longest.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(20);
pub(super) const LONGEST_RETRY: Duration = Duration::from_millis(500);
/// How long a neighbour may take to restart before its callers are told.
pub(super) const RESTART: Duration = Duration::from_secs(10);
/// How long a server waits for open calls when it stops.
pub(super) const DRAIN: Duration = Duration::from_secs(20);
