//! Content after BDAT (RFC 3030).

use alloc::boxed::Box;
use alloc::format;
use core::mem;

use super::content::MAX_DROPPED;
use super::event::DropReason;
use super::session::{Next, Session, State};
use crate::data::{ContentProblem, LineChecker};
use crate::envelope::Envelope;
use crate::outline::Speaker;
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// A chunk whose octets are coming.
#[derive(Debug)]
pub(super) struct Chunk {
    size: u64,
    remaining: u64,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    /// Part of the message.
    Take {
        last: bool,
        envelope: Envelope,
        checker: LineChecker,
    },
    /// Read because it comes anyway, then refused.
    Skip { reply: Reply, after: Box<State> },
}

impl Chunk {
    pub(super) fn taken(size: u64, last: bool, envelope: Envelope, checker: LineChecker) -> Self {
        Self {
            size,
            remaining: size,
            fate: Fate::Take {
                last,
                envelope,
                checker,
            },
        }
    }

    pub(super) fn skipped(size: u64, reply: Reply, after: State) -> Self {
        Self {
            size,
            remaining: size,
            fate: Fate::Skip {
                reply,
                after: Box::new(after),
            },
        }
    }

    /// Turns a chunk that was taken into one that is skipped.
    fn refuse(&mut self, problem: ContentProblem) {
        let last = matches!(self.fate, Fate::Take { last: true, .. });
        self.fate = Fate::Skip {
            reply: problem.reply(),
            after: Box::new(if last {
                State::Ready
            } else {
                State::ChunksRefused
            }),
        };
    }
}

impl Session {
    pub(super) fn receive_chunk<'i>(
        &mut self,
        input: &'i [u8],
        output: &mut Output,
    ) -> (usize, Next<'i>) {
        let State::Chunk(chunk) = &mut self.state else {
            return (0, Next::Again);
        };
        // Before the first octet: what is too large is known from the command.
        if let Fate::Take { checker, .. } = &chunk.fate {
            let limit = self.config.content.size;
            let whole = checker.summary().size.saturating_add(chunk.remaining);
            if limit != 0 && whole > limit {
                chunk.refuse(ContentProblem::TooLarge);
                return (
                    0,
                    Next::Dropped(DropReason::Refused(ContentProblem::TooLarge)),
                );
            }
        }
        if let Fate::Skip { reply, .. } = &chunk.fate
            && chunk.remaining > MAX_DROPPED.saturating_add(self.config.content.size)
        {
            // More than anybody should read for nothing.
            let reply = reply.clone();
            self.close(&reply, output);
            return (0, Next::Again);
        }
        if chunk.remaining == 0 {
            return (0, self.end_chunk(output));
        }
        if input.is_empty() {
            return (0, Next::NeedMore);
        }
        let length = usize::try_from(chunk.remaining).map_or(input.len(), |n| n.min(input.len()));
        let piece = &input[..length];
        chunk.remaining -= length as u64;
        let next = match &mut chunk.fate {
            Fate::Skip { .. } => Next::Again,
            Fate::Take { checker, .. } => {
                checker.check(piece);
                match checker.problem() {
                    None => Next::Content(piece),
                    Some(problem) => {
                        chunk.refuse(problem);
                        Next::Dropped(DropReason::Refused(problem))
                    }
                }
            }
        };
        (length, next)
    }

    fn end_chunk<'i>(&mut self, output: &mut Output) -> Next<'i> {
        let State::Chunk(mut chunk) = mem::replace(&mut self.state, State::Ready) else {
            return Next::Again;
        };
        if let Fate::Take {
            last: true,
            checker,
            ..
        } = &mut chunk.fate
        {
            checker.finish();
            if let Some(problem) = checker.problem() {
                chunk.refuse(problem);
                self.state = State::Chunk(chunk);
                return Next::Dropped(DropReason::Refused(problem));
            }
        }
        output.outline.push(
            Speaker::Client,
            &format!("[{} octets of content]", chunk.size),
        );
        match chunk.fate {
            Fate::Skip { reply, after } => {
                self.state = *after;
                self.say(&reply, output);
                Next::Again
            }
            Fate::Take {
                last: true,
                envelope,
                checker,
            } => {
                self.state = State::Storing;
                Next::EndOfMessage(envelope, checker.summary())
            }
            Fate::Take {
                last: false,
                envelope,
                checker,
            } => {
                self.state = State::BetweenChunks(envelope, checker);
                let status = EnhancedStatus::success(0, 0);
                let text = format!("{} octets received", chunk.size);
                output.reply(&Reply::new(250, status, text));
                Next::Again
            }
        }
    }
}
