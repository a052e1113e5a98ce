//! Content after DATA.

use alloc::format;
use core::mem;

use super::event::DropReason;
use super::session::{Next, Session, State};
use crate::data::{ContentProblem, Piece};
use crate::outline::Speaker;
use crate::output::Output;

/// Octets that are read and dropped of a message that is refused already, beyond what the size
/// limit allows; then the session ends. A client that does not look at replies while it sends is
/// to get its 552, but nobody may send for ever.
pub(super) const MAX_DROPPED: u64 = 64 * 1024 * 1024;

impl Session {
    pub(super) fn receive_content<'i>(
        &mut self,
        input: &'i [u8],
        output: &mut Output,
    ) -> (usize, Next<'i>) {
        let State::Content(_, decoder) = &mut self.state else {
            return (0, Next::Again);
        };
        let (consumed, piece) = decoder.decode(input);
        let next = match piece {
            Piece::Content(content) => Next::Content(content),
            Piece::Refused(problem) => Next::Dropped(DropReason::Refused(problem)),
            Piece::NeedMore => {
                let dropped = decoder
                    .summary()
                    .size
                    .saturating_sub(self.config.content.size);
                if decoder.problem().is_some() && dropped > MAX_DROPPED {
                    self.close(&ContentProblem::TooLarge.reply(), output);
                    Next::Again
                } else {
                    Next::NeedMore
                }
            }
            Piece::End => self.end_content(output),
        };
        (consumed, next)
    }

    fn end_content<'i>(&mut self, output: &mut Output) -> Next<'i> {
        let State::Content(envelope, decoder) = mem::replace(&mut self.state, State::Ready) else {
            return Next::Again;
        };
        let summary = decoder.summary();
        output.outline.push(
            Speaker::Client,
            &format!("[{} octets of content]", summary.size),
        );
        output.outline.push(Speaker::Client, ".");
        match decoder.problem() {
            None => {
                self.state = State::Storing;
                Next::EndOfMessage(envelope, summary)
            }
            Some(problem) => {
                self.say(&problem.reply(), output);
                Next::Again
            }
        }
    }
}
