//! What each answer of the driver leads to.

use alloc::format;
use core::mem;

use super::chunk::Chunk;
use super::event::Answer;
use super::session::{Counts, Session, State, Transfer, Wait};
use crate::data::{ContentDecoder, LineChecker};
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

impl Session {
    /// Answers the open question. Without an open question it does nothing.
    pub fn answer(&mut self, answer: Answer, output: &mut Output) {
        match answer {
            Answer::Refuse(reply) => self.refuse(&refusal(reply), output),
            Answer::RefuseAndClose(reply) if self.is_asking() => {
                self.close(&refusal(reply), output);
            }
            Answer::RefuseAndClose(_) => {}
            answer => self.consent(answer, output),
        }
    }

    fn is_asking(&self) -> bool {
        self.wait() == Wait::Driver && !matches!(self.state, State::Fresh | State::Handshake)
    }

    fn consent(&mut self, answer: Answer, output: &mut Output) {
        use Answer::{Accept, Authenticated, Denied, Stored};
        let ok =
            |subject, detail, text| Reply::new(250, EnhancedStatus::success(subject, detail), text);
        match (mem::replace(&mut self.state, State::Ready), answer) {
            (State::VettingConnection, Accept) => {
                output.reply(&Reply::plain(
                    220,
                    format!("{} ESMTP Postrider", self.config.hostname),
                ));
            }
            (State::VettingHelo(hello), Accept) => {
                let esmtp = hello.esmtp;
                self.client = Some(hello);
                if esmtp {
                    output.reply(&self.ehlo_reply());
                } else {
                    output.reply(&Reply::plain(
                        250,
                        self.config.hostname.clone().into_string(),
                    ));
                }
            }
            (State::VettingMail(envelope), Accept) => {
                self.counts.mail_refused = false;
                self.state = State::Transaction(envelope);
                output.reply(&ok(1, 0, "OK"));
            }
            (State::VettingRcpt(mut envelope, recipient), Accept) => {
                envelope.recipients.push(recipient);
                self.state = State::Transaction(envelope);
                output.reply(&ok(1, 5, "OK"));
            }
            (State::VettingContent(envelope, Transfer::Data), Accept) => {
                self.state = State::Content(envelope, ContentDecoder::new(self.config.content));
                output.reply(&Reply::plain(
                    354,
                    "Send the message, end it with <CRLF>.<CRLF>",
                ));
            }
            (State::VettingContent(envelope, Transfer::Chunk { size, last }), Accept) => {
                let checker = LineChecker::new(self.config.content);
                self.state = State::Chunk(Chunk::taken(size, last, envelope, checker));
            }
            // RFC 5321 section 6.1: this 250 takes responsibility. No other line here says it.
            (State::Storing, Stored(id)) => {
                let status = EnhancedStatus::success(0, 0);
                output.reply(&Reply::new(250, status, format!("Queued as {id}")));
                self.counts = Counts {
                    auth_failures: self.counts.auth_failures,
                    ..Counts::default()
                };
            }
            (State::Authenticating(..), Authenticated) => {
                self.authenticated = true;
                let status = EnhancedStatus::success(7, 0);
                output.reply(&Reply::new(235, status, "Authentication succeeded"));
            }
            (State::Authenticating(..), Denied) => self.deny(output),
            (state, _) => {
                self.state = state;
                let status = EnhancedStatus::transient(3, 0);
                self.refuse(&Reply::new(451, status, "Local error, try later"), output);
            }
        }
    }

    /// Says no to the open question.
    fn refuse(&mut self, reply: &Reply, output: &mut Output) {
        match mem::replace(&mut self.state, State::Ready) {
            State::VettingConnection => self.close(reply, output),
            State::VettingRcpt(envelope, _) => {
                self.state = State::Transaction(envelope);
                self.say(reply, output);
            }
            State::VettingContent(_, Transfer::Chunk { size, last }) => {
                let after = if last {
                    State::Ready
                } else {
                    State::ChunksRefused
                };
                self.state = State::Chunk(Chunk::skipped(size, reply.clone(), after));
            }
            State::VettingHelo(_)
            | State::VettingMail(_)
            | State::VettingContent(_, Transfer::Data)
            | State::Storing
            | State::Authenticating(..) => self.say(reply, output),
            // No question is open.
            state => self.state = state,
        }
    }
}

/// A refusal must refuse, whatever the driver says.
fn refusal(reply: Reply) -> Reply {
    if reply.is_transient() || reply.is_permanent() {
        reply
    } else {
        Reply::new(
            451,
            EnhancedStatus::transient(3, 0),
            "Local error, try later",
        )
    }
}
