//! The content of one message while it arrives.
//!
//! What is here at any moment is bounded: up to the inline limit, or the header section while it
//! is incomplete. Beyond that, content flows on into the body store. The octets that arrived are
//! moved once, from the socket to where they stay: room for the header fields that are added in
//! front is left free at the start, and filled when they are known.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use postrider_protocol::Status;
use postrider_protocol::api::Queue;
use postrider_protocol::queue_v1::{Body, body::Content};

use crate::headers::{HeaderScan, Headers};
use crate::upload::Upload;

/// First allocation for content of unknown size: most mail fits.
const FIRST: usize = 8 * 1024;

/// Bounds of what an intake holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Content up to this size stays in memory, in octets.
    pub(crate) inline: usize,
    /// The header section is held up to this size, in octets.
    pub(crate) headers: usize,
}

/// Content on its way in.
pub(crate) struct Intake {
    bounds: Bounds,
    /// `room` free octets, then content that has not flowed on.
    held: BytesMut,
    room: usize,
    scan: HeaderScan,
    /// Octets that arrived.
    arrived: u64,
    state: State,
}

enum State {
    /// The header section is not complete.
    Headers,
    /// It is, and what was to be added is in front of it.
    Body,
    /// What arrived before flows on.
    Flowing(Upload),
    /// The store has failed: the rest is read and forgotten.
    Failed(Status),
    /// The message is refused: the rest is read and forgotten.
    Refused,
}

/// What a piece of content brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing to do.
    More,
    /// The header section is complete: judge it, then call [`Intake::begin_body`] or
    /// [`Intake::refuse`].
    Headers(Headers),
    /// The header section is larger than its bound.
    HeadersTooLarge,
}

impl Intake {
    /// An intake that leaves `room` octets for fields that are added, for content that the client
    /// expects to have `expected` octets.
    pub(crate) fn new(bounds: Bounds, room: usize, expected: Option<u64>) -> Self {
        let expected = expected.map_or(FIRST, |size| {
            usize::try_from(size).map_or(bounds.inline, |size| size.min(bounds.inline))
        });
        let mut held = BytesMut::with_capacity(room + expected);
        held.resize(room, 0);
        Self {
            bounds,
            held,
            room,
            scan: HeaderScan::default(),
            arrived: 0,
            state: State::Headers,
        }
    }

    /// Octets of content that arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Takes a piece of content.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Progress {
        self.arrived += piece.len() as u64;
        match self.state {
            State::Refused | State::Failed(_) => return Progress::More,
            State::Headers | State::Body | State::Flowing(_) => {
                self.held.extend_from_slice(piece);
            }
        }
        if !matches!(self.state, State::Headers) {
            return Progress::More;
        }
        match self.scan.advance(&self.held[self.room..]) {
            Some(headers) if headers.len > self.bounds.headers => Progress::HeadersTooLarge,
            Some(headers) => Progress::Headers(headers),
            None if self.held.len() - self.room > self.bounds.headers => Progress::HeadersTooLarge,
            None => Progress::More,
        }
    }

    /// The content has ended: what it says of the header section, if that was not said before.
    pub(crate) fn end_of_headers(&mut self) -> Option<Headers> {
        matches!(self.state, State::Headers).then(|| self.scan.finish(&self.held[self.room..]))
    }

    /// The header section is fine. `prefix` goes in front of it.
    pub(crate) fn begin_body(&mut self, prefix: &[u8]) {
        if prefix.len() <= self.room {
            let start = self.room - prefix.len();
            self.held[start..self.room].copy_from_slice(prefix);
            self.held.advance(start);
        } else {
            // More room was needed than was left: slower, and as good.
            let mut all = BytesMut::with_capacity(prefix.len() + self.held.len() - self.room);
            all.extend_from_slice(prefix);
            all.extend_from_slice(&self.held[self.room..]);
            self.held = all;
        }
        self.state = State::Body;
    }

    /// The message is refused: what is held and what comes is forgotten.
    pub(crate) fn refuse(&mut self) {
        self.held = BytesMut::new();
        self.state = State::Refused;
    }

    /// Whether [`Intake::flow`] has something to do.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.state, State::Body | State::Flowing(_))
            && self.held.len() > self.bounds.inline
    }

    /// Moves what is held on to the body store, and waits while that is behind.
    pub(crate) async fn flow(&mut self, queue: &Arc<dyn Queue>, wait: Duration) {
        if let State::Body = self.state {
            self.state = State::Flowing(Upload::start(Arc::clone(queue)));
        }
        let State::Flowing(upload) = &mut self.state else {
            return;
        };
        let chunk = std::mem::replace(&mut self.held, BytesMut::with_capacity(self.bounds.inline));
        if let Err(status) = upload.send(chunk.freeze(), wait).await {
            self.held = BytesMut::new();
            self.state = State::Failed(status);
        }
    }

    /// The content has ended: gives the body, inline or stored.
    ///
    /// # Errors
    /// The store has failed.
    pub(crate) async fn finish(
        self,
        queue: &Arc<dyn Queue>,
        wait: Duration,
    ) -> Result<Body, Status> {
        let flowing = match self.state {
            // What was added in front does not make inline content large.
            State::Body if self.held.len() <= self.bounds.inline + self.room => {
                return Ok(inline(self.held.freeze()));
            }
            State::Body => Upload::start(Arc::clone(queue)),
            State::Flowing(upload) => upload,
            State::Failed(status) => return Err(status),
            State::Headers | State::Refused => {
                return Err(Status::internal("content was not judged, or was refused"));
            }
        };
        stored(flowing, self.held.freeze(), wait).await
    }
}

fn inline(content: Bytes) -> Body {
    Body {
        size: content.len() as u64,
        content: Some(Content::Inline(content)),
    }
}

async fn stored(mut upload: Upload, rest: Bytes, wait: Duration) -> Result<Body, Status> {
    if !rest.is_empty() {
        upload.send(rest, wait).await?;
    }
    let stored = upload.finish(wait).await?;
    Ok(Body {
        size: stored.size,
        content: Some(Content::Stored(stored.name)),
    })
}
