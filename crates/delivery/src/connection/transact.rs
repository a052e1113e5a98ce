//! Sending one message over a connection.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use postrider_protocol::Status;
use postrider_protocol::api::BodyStream;
use postrider_smtp::client::{Event, Message, Outcome};
use tokio::time::timeout;

use super::Connection;

/// A large body leaves in pieces of this size.
const PIECE: usize = 64 * 1024;
/// For the next piece of a stored body.
const BODY: Duration = Duration::from_secs(60);

/// A message's content.
pub(crate) enum Content {
    Inline(Bytes),
    /// From the queue, as it comes. It can be sent once.
    Stored(BodyStream),
}

/// What a transaction gave.
pub(crate) struct Transaction {
    /// One a recipient of the message, in order.
    pub(crate) outcomes: Vec<Outcome>,
    /// The content could not be read to its end; nothing was delivered.
    pub(crate) body_error: Option<Status>,
}

impl Connection {
    /// Sends a message. The connection must be [ready](Self::ready).
    pub(crate) async fn transact(
        &mut self,
        message: Message,
        content: &mut Content,
    ) -> Transaction {
        let size = message.size;
        self.transactions += 1;
        self.session.begin(message, &mut self.output);
        self.stamp();
        let mut body_error = None;
        loop {
            match self.event().await {
                Event::Finished(outcomes) => {
                    self.look_ahead();
                    return Transaction {
                        outcomes,
                        body_error,
                    };
                }
                Event::SendContent => {
                    if let Err(error) = self.send(content, size).await {
                        self.output.outline.note("the content could not be read");
                        self.session
                            .connection_lost("the content could not be read to its end");
                        // No dot: the server must not take what it has for the whole.
                        self.stream = super::Stream::Gone;
                        body_error = Some(error);
                    }
                }
                Event::Failed(_) | Event::Closed => {
                    self.broken = true;
                    return Transaction {
                        outcomes: Vec::new(),
                        body_error,
                    };
                }
                Event::NeedMore | Event::Ready | Event::StartTls => {
                    self.session.connection_lost("out of step");
                }
            }
        }
    }

    /// Sends the content and its end. An error means that the content is not whole; a lost
    /// connection is noticed by whoever reads next.
    async fn send(&mut self, content: &mut Content, size: u64) -> Result<(), Status> {
        let sent = match content {
            Content::Inline(content) => {
                if !self.send_piecewise(&content.clone()).await {
                    return Ok(());
                }
                content.len() as u64
            }
            Content::Stored(stream) => {
                let mut sent = 0;
                loop {
                    let Some(piece) = self.cutoff.or(timeout(BODY, stream.next())).await else {
                        self.session.connection_lost(super::CUT);
                        return Ok(());
                    };
                    let piece =
                        piece.map_err(|_| Status::deadline_exceeded("no more content in time"))?;
                    match piece {
                        Some(piece) => {
                            let piece = piece?;
                            sent += piece.len() as u64;
                            if !self.send_piecewise(&piece).await || !self.relieve().await {
                                return Ok(());
                            }
                        }
                        None => break sent,
                    }
                }
            }
        };
        if sent != size {
            return Err(Status::data_loss(format!(
                "the content has {sent} octets instead of {size}"
            )));
        }
        // The dot travels with the last piece.
        self.session.end_of_content(&mut self.output);
        self.stamp();
        Ok(())
    }

    /// Gives content to the session; what is beyond a piece leaves at once. False if the
    /// connection is lost.
    async fn send_piecewise(&mut self, content: &[u8]) -> bool {
        let mut pieces = content.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            self.session.content(piece, &mut self.output);
            if pieces.peek().is_some() && !self.relieve().await {
                return false;
            }
        }
        true
    }

    /// Writes the output if it is as large as a piece.
    async fn relieve(&mut self) -> bool {
        if self.output.bytes.len() < PIECE {
            return true;
        }
        let wait = self.timeouts.block.0;
        match self.flush(wait).await {
            Ok(()) => true,
            Err(lost) => {
                self.output.outline.note(&lost.why);
                if lost.silent {
                    self.session.connection_lost(lost.why);
                }
                false
            }
        }
    }
}
