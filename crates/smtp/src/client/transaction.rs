//! One mail transaction: MAIL, RCPTs, DATA, content, outcomes.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::event::{Failure, FailureKind, Message, Outcome};
use super::phase::Phase;
use super::session::{Session, State};
use super::wording::Wording;
use crate::data::DotStuffer;
use crate::extension::Extensions;
use crate::outline::Speaker;
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// Commands that are under way at most. More could fill the buffers between the two sides with
/// replies while we still write commands (RFC 2920 section 3.1).
const WINDOW: usize = 128;

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Transaction {
    message: Message,
    wording: Wording,
    /// One a recipient, once it is known.
    outcomes: Vec<Option<Outcome>>,
    /// Recipients that the server has accepted, so far without outcome.
    accepted: usize,
    /// MAIL was refused: the replies to what went with it decide nothing.
    refused: bool,
    /// The command to be sent next, and the one whose reply is awaited.
    sent: Step,
    awaited: Step,
    pub(super) stage: Stage,
}

/// A place in the sequence RSET, MAIL, RCPT (each), DATA.
type Step = usize;
const RSET: Step = 0;
const MAIL: Step = 1;
const FIRST_RCPT: Step = 2;

#[derive(Debug)]
pub(super) enum Stage {
    /// Commands up to DATA.
    Commands,
    /// 354 came: the driver sends content. With the octets so far.
    Content(DotStuffer, u64),
    /// The final dot is sent.
    End,
    /// What was sent did not all leave, and with it the final dot.
    Cut,
}

impl Session {
    pub(super) fn begin_transaction(&mut self, message: Message, output: &mut Output) {
        let wording = match Wording::of(&message, &self.offer) {
            Ok(wording) => wording,
            Err(failure) => {
                let outcomes = vec_of(Outcome::Failed(failure), message.envelope.recipients.len());
                self.state = State::Finished {
                    outcomes,
                    reusable: true,
                };
                return;
            }
        };
        let first = if self.needs_rset { RSET } else { MAIL };
        let mut transaction = Box::new(Transaction {
            outcomes: vec_of(None, message.envelope.recipients.len()),
            message,
            wording,
            accepted: 0,
            refused: false,
            sent: first,
            awaited: first,
            stage: Stage::Commands,
        });
        if transaction.outcomes.is_empty() {
            self.finish(*transaction, true);
            return;
        }
        transaction.send(self.offer.has(Extensions::PIPELINING), output);
        self.state = State::Transaction(transaction);
    }

    pub(super) fn advance_transaction(
        &mut self,
        mut transaction: Box<Transaction>,
        reply: Reply,
        output: &mut Output,
    ) {
        let phase = transaction.phase();
        let closes = reply.code() == 421;
        let failure = Failure {
            phase,
            kind: FailureKind::Replied,
            reply,
        };
        if closes {
            transaction.settle(&failure);
            return self.finish(*transaction, false);
        }
        match transaction.stage {
            // A reply before the end of content: the server wants no more of it.
            Stage::Content(..) | Stage::Cut => {
                transaction.settle(&sensible(failure));
                self.finish(*transaction, false);
            }
            Stage::End => {
                let reusable = !failure.reply.is_intermediate();
                transaction.end(&failure);
                self.finish(*transaction, reusable);
            }
            Stage::Commands => self.advance_commands(transaction, &failure, output),
        }
    }

    fn advance_commands(
        &mut self,
        mut transaction: Box<Transaction>,
        failure: &Failure,
        output: &mut Output,
    ) {
        let data = transaction.data();
        let step = transaction.awaited;
        transaction.awaited += 1;
        let reply = &failure.reply;
        if step == data {
            self.needs_rset = true;
            return match (reply.code(), transaction.accepted) {
                (354, 0) => {
                    // Nobody to send it to (RFC 2920 section 3.1): an empty message that the
                    // server will not take.
                    output.bytes.extend_from_slice(b".\r\n");
                    output.outline.push(Speaker::Client, ".");
                    transaction.stage = Stage::End;
                    self.state = State::Transaction(transaction);
                }
                (354, _) => {
                    transaction.stage = Stage::Content(DotStuffer::new(), 0);
                    self.state = State::Transaction(transaction);
                }
                // It went on without content, so who knows what it takes for content.
                (200..=399, _) => {
                    transaction.settle(&protocol(failure));
                    self.finish(*transaction, false);
                }
                _ => {
                    transaction.settle(failure);
                    self.finish(*transaction, true);
                }
            };
        }
        if reply.is_intermediate() || (step == RSET && !reply.is_positive()) {
            transaction.settle(&protocol(failure));
            return self.finish(*transaction, false);
        }
        match step {
            RSET => self.needs_rset = false,
            MAIL if reply.is_positive() => self.needs_rset = true,
            MAIL => {
                transaction.refused = true;
                transaction.settle(failure);
            }
            _ if transaction.refused => {}
            _ => transaction.rcpt(step - FIRST_RCPT, failure),
        }
        transaction.send(self.offer.has(Extensions::PIPELINING), output);
        if transaction.awaited == transaction.sent {
            // Nothing more is to be said: every recipient was refused.
            self.finish(*transaction, true);
        } else {
            self.state = State::Transaction(transaction);
        }
    }

    /// Ends the transaction; every recipient has its outcome.
    fn finish(&mut self, transaction: Transaction, reusable: bool) {
        if matches!(transaction.stage, Stage::End) {
            self.needs_rset = false;
        }
        self.state = State::Finished {
            outcomes: transaction.outcomes.into_iter().flatten().collect(),
            reusable,
        };
    }
}

impl Transaction {
    fn data(&self) -> Step {
        FIRST_RCPT + self.outcomes.len()
    }

    /// Sends what may be sent now: one command, or with PIPELINING up to DATA.
    fn send(&mut self, pipelining: bool, output: &mut Output) {
        let window = if pipelining { WINDOW } else { 1 };
        while self.sent <= self.data() && self.sent - self.awaited < window {
            let all_answered = self.awaited == self.sent;
            if self.refused || (self.sent == self.data() && all_answered && self.accepted == 0) {
                return;
            }
            match self.sent {
                RSET => output.command(format_args!("RSET")),
                MAIL => self.wording.mail(&self.message, output),
                step if step == self.data() => output.command(format_args!("DATA")),
                step => self.wording.rcpt(&self.message, step - FIRST_RCPT, output),
            }
            self.sent += 1;
        }
    }

    /// The reply to one RCPT.
    fn rcpt(&mut self, recipient: usize, failure: &Failure) {
        let reply = &failure.reply;
        if reply.is_positive() {
            self.accepted += 1;
            return;
        }
        // RFC 5321 section 4.5.3.1.10: 452 is "too many recipients", and 552 was in RFC 821.
        let status = reply
            .status()
            .map(|status| (status.subject(), status.detail()));
        let too_many = match reply.code() {
            452 | 552 => matches!(status, None | Some((5, 3))),
            _ => false,
        };
        self.outcomes[recipient] = Some(if too_many && self.accepted > 0 {
            Outcome::NextTransaction(reply.clone())
        } else if too_many {
            Outcome::Deferred(failure.clone())
        } else {
            outcome(failure)
        });
    }

    /// Gives every recipient without outcome this one.
    fn settle(&mut self, failure: &Failure) {
        let outcome = outcome(failure);
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
        self.accepted = 0;
    }

    /// The reply to the final dot.
    fn end(&mut self, failure: &Failure) {
        let reply = &failure.reply;
        let outcome = if reply.is_positive() {
            Outcome::Delivered(reply.clone())
        } else if reply.is_intermediate() {
            Outcome::Unknown(protocol(failure))
        } else {
            outcome(failure)
        };
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
    }

    /// The connection is of no use any more.
    pub(super) fn lost(mut self, failure: &Failure) -> Vec<Outcome> {
        if matches!(self.stage, Stage::End) {
            for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
                *open = Some(Outcome::Unknown(failure.clone()));
            }
        } else {
            self.settle(failure);
        }
        self.outcomes.into_iter().flatten().collect()
    }

    /// What the session has said last was not all written.
    pub(super) fn cut(&mut self) {
        if matches!(self.stage, Stage::Content(..) | Stage::End) {
            self.stage = Stage::Cut;
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Content(..))
    }

    pub(super) fn end_of_content(&mut self, output: &mut Output) {
        match core::mem::replace(&mut self.stage, Stage::End) {
            Stage::Content(stuffer, octets) => {
                stuffer.finish(&mut output.bytes);
                let text = format!("[{octets} octets of content]");
                output.outline.push(Speaker::Client, &text);
                output.outline.push(Speaker::Client, ".");
            }
            stage => self.stage = stage,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Commands => match self.awaited {
                RSET => Phase::Rset,
                MAIL => Phase::Mail,
                step if step == self.data() => Phase::DataInitiation,
                _ => Phase::Rcpt,
            },
            Stage::Content(..) | Stage::Cut => Phase::DataBlock,
            Stage::End => Phase::DataTermination,
        }
    }
}

/// What a failure means for a recipient. What is neither 4yz nor 5yz is no permanent failure.
fn outcome(failure: &Failure) -> Outcome {
    if failure.reply.is_permanent() {
        Outcome::Failed(failure.clone())
    } else {
        Outcome::Deferred(failure.clone())
    }
}

/// A failure as it is, if its reply refuses.
fn sensible(failure: Failure) -> Failure {
    if failure.reply.is_transient() || failure.reply.is_permanent() {
        failure
    } else {
        protocol(&failure)
    }
}

/// A reply that makes no sense at its place.
fn protocol(failure: &Failure) -> Failure {
    Failure {
        phase: failure.phase,
        kind: FailureKind::Protocol,
        reply: Reply::new(
            451,
            EnhancedStatus::transient(5, 0),
            format!(
                "Unexpected reply to {}: {}",
                failure.phase.name(),
                failure.reply
            ),
        ),
    }
}

fn vec_of<T: Clone>(value: T, length: usize) -> Vec<T> {
    let mut values = Vec::new();
    values.resize(length, value);
    values
}
