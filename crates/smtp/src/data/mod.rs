//! Mail content on the wire: dot-stuffing (RFC 5321 section 4.5.2) both ways, at any chunk border.
//!
//! Lines end in CRLF and in nothing else, and only CRLF.CRLF ends a message. Servers that took a
//! bare LF for a line end, behind servers that did not, have let senders smuggle a second message
//! inside of a first; so what has a bare CR or LF is read to its true end and refused.

mod decoder;
mod lines;
mod stuffer;

pub use decoder::{ContentDecoder, Piece};
pub(crate) use lines::LineChecker;
pub use lines::{ContentLimits, ContentProblem, ContentSummary};
pub use stuffer::DotStuffer;
