//! What each command leads to.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::mem;

use super::chunk::Chunk;
use super::config::TlsPolicy;
use super::event::DropReason;
use super::session::{Hello, Next, Session, State, Transfer};
use crate::address::{ForwardPath, ReversePath};
use crate::command::{Command, CommandError};
use crate::datetime::DateTime;
use crate::envelope::{Envelope, Hold, MailParameters, Priority, RcptParameters, Recipient};
use crate::extension::Extensions;
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

fn done(code: u16, subject: u16, detail: u16, text: &'static str) -> Reply {
    Reply::new(code, EnhancedStatus::success(subject, detail), text)
}

fn never(code: u16, subject: u16, detail: u16, text: &'static str) -> Reply {
    Reply::new(code, EnhancedStatus::permanent(subject, detail), text)
}

fn bad_order(text: &'static str) -> Reply {
    never(503, 5, 1, text)
}

impl Session {
    /// Advances the session by one command.
    pub(super) fn step<'i>(&mut self, command: Command<'_>, output: &mut Output) -> Next<'i> {
        let reply = match command {
            Command::Ehlo(name) => return self.hello(name, true),
            Command::Helo(name) => return self.hello(name, false),
            Command::Mail(path, parameters) => match self.mail(path, parameters) {
                Ok(()) => return Next::Ask,
                Err(reply) => reply,
            },
            Command::Rcpt(path, parameters) => match self.rcpt(path, parameters) {
                Ok(()) => return Next::Ask,
                // Clients may learn about the limit by running into it (RFC 5321 section
                // 4.5.3.1.10).
                Err(reply) if reply.code() == 452 || self.counts.mail_refused => {
                    self.say_sparing(&reply, output);
                    return Next::Again;
                }
                Err(reply) => reply,
            },
            Command::Data => match self.content_may_come(Transfer::Data) {
                Ok(()) => return Next::Ask,
                Err(reply) if self.counts.mail_refused => {
                    self.say_sparing(&reply, output);
                    return Next::Again;
                }
                Err(reply) => reply,
            },
            Command::Bdat { size, last } => return self.bdat(size, last),
            Command::Rset => {
                self.state = State::Ready;
                done(250, 0, 0, "OK")
            }
            Command::Noop => done(250, 0, 0, "OK"),
            // RFC 5321 section 7.3: nobody is told who exists, and 252 is the honest way to say so.
            Command::Vrfy => done(252, 0, 0, "Cannot verify, but will take messages and try"),
            Command::Expn | Command::Lhlo(_) => CommandError::NotImplemented.reply(),
            Command::Help => done(214, 0, 0, "Commands are those of RFC 5321"),
            Command::Quit => {
                let reply = Reply::new(
                    221,
                    EnhancedStatus::success(0, 0),
                    format!("{} closes the connection", self.config.hostname),
                );
                self.close(&reply, output);
                return Next::Again;
            }
            Command::StartTls => match self.start_tls() {
                Ok(()) => {
                    output.reply(&done(220, 0, 0, "Ready to start TLS"));
                    self.state = State::Handshake;
                    return Next::StartTls;
                }
                Err(reply) => reply,
            },
            Command::Auth {
                mechanism,
                initial_response,
            } => return self.authenticate(mechanism, initial_response, output),
        };
        self.say(&reply, output);
        Next::Again
    }

    /// EHLO and HELO end a transaction as RSET does (RFC 5321 section 4.1.4).
    fn hello<'i>(&mut self, name: &str, esmtp: bool) -> Next<'i> {
        self.state = State::VettingHelo(Hello {
            name: name.into(),
            esmtp,
        });
        Next::Ask
    }

    fn mail(&mut self, path: ReversePath, mut parameters: MailParameters) -> Result<(), Reply> {
        if !matches!(self.state, State::Ready) {
            return Err(bad_order("A transaction is under way already"));
        }
        self.mail_begins();
        if self.client.is_none() {
            return Err(bad_order("Send EHLO first"));
        }
        if self.needs_tls() {
            return Err(never(530, 7, 0, "Send STARTTLS first"));
        }
        if self.config.auth_required && !self.authenticated {
            return Err(never(530, 7, 0, "Authentication required"));
        }
        let limit = self.config.content.size;
        if limit != 0 && parameters.size.is_some_and(|size| size > limit) {
            return Err(never(552, 3, 4, "Message is too large"));
        }
        let is_ascii = path.address().is_none_or(crate::address::Address::is_ascii);
        if !is_ascii && !parameters.smtputf8 {
            return Err(never(553, 6, 7, "This address needs SMTPUTF8"));
        }
        match parameters.hold {
            Some(_) if !self.authenticated => {
                return Err(never(530, 7, 0, "Authentication required"));
            }
            Some(hold) if self.is_too_long(hold) => {
                return Err(never(501, 5, 4, "The message cannot be held for so long"));
            }
            _ => {}
        }
        if !self.authenticated {
            // A stranger's mail is as urgent as any other (RFC 6710 section 5).
            parameters.priority = Priority::default();
        }
        self.state = State::VettingMail(Envelope {
            reverse_path: path,
            parameters,
            recipients: Vec::new(),
        });
        Ok(())
    }

    fn is_too_long(&self, hold: Hold) -> bool {
        match hold {
            Hold::For(seconds) => seconds > self.config.submission.hold,
            Hold::Until(moment) => moment > self.latest_release(),
        }
    }

    /// The latest moment that HOLDUNTIL may name now.
    fn latest_release(&self) -> DateTime {
        let most = u64::from(self.config.submission.hold);
        DateTime(self.now.0.saturating_add(most))
    }

    /// Until it is accepted, MAIL counts as refused.
    pub(super) fn mail_begins(&mut self) {
        self.counts.spared = 0;
        self.counts.mail_refused = true;
    }

    fn rcpt(&mut self, path: ForwardPath, parameters: RcptParameters) -> Result<(), Reply> {
        let State::Transaction(envelope) = &mut self.state else {
            return Err(bad_order("Send MAIL first"));
        };
        if envelope.recipients.len() >= self.config.limits.recipients {
            let status = EnhancedStatus::transient(5, 3);
            return Err(Reply::new(452, status, "Too many recipients"));
        }
        let is_ascii = path.address().is_none_or(crate::address::Address::is_ascii);
        if !is_ascii && !envelope.parameters.smtputf8 {
            return Err(never(553, 6, 7, "This address needs SMTPUTF8"));
        }
        let State::Transaction(envelope) = mem::replace(&mut self.state, State::Ready) else {
            return Err(bad_order("Send MAIL first"));
        };
        self.state = State::VettingRcpt(envelope, Recipient { path, parameters });
        Ok(())
    }

    /// Checks that content may come now, and asks.
    fn content_may_come(&mut self, transfer: Transfer) -> Result<(), Reply> {
        match mem::replace(&mut self.state, State::Ready) {
            State::Transaction(envelope) if !envelope.recipients.is_empty() => {
                self.state = State::VettingContent(envelope, transfer);
                Ok(())
            }
            State::Transaction(envelope) => {
                self.state = State::Transaction(envelope);
                Err(never(554, 5, 1, "No valid recipients"))
            }
            state @ (State::BetweenChunks(..) | State::ChunksRefused) => {
                self.state = state;
                Err(bad_order("Send BDAT or RSET"))
            }
            state => {
                self.state = state;
                Err(bad_order("Send MAIL and RCPT first"))
            }
        }
    }

    /// The octets of a chunk follow whatever is said about it, so they are always taken
    /// (RFC 3030 section 4.2).
    fn bdat<'i>(&mut self, size: u64, last: bool) -> Next<'i> {
        let offered = self.config.extensions.contains(Extensions::CHUNKING);
        match mem::replace(&mut self.state, State::Ready) {
            State::BetweenChunks(envelope, checker) => {
                self.state = State::Chunk(Chunk::taken(size, last, envelope, checker));
                Next::Again
            }
            state if !offered => {
                self.state = State::Chunk(Chunk::skipped(
                    size,
                    CommandError::NotImplemented.reply(),
                    state,
                ));
                Next::Again
            }
            state => {
                self.state = state;
                match self.content_may_come(Transfer::Chunk { size, last }) {
                    Ok(()) => Next::Ask,
                    Err(reply) => {
                        let after = match mem::replace(&mut self.state, State::Ready) {
                            State::ChunksRefused if last => State::Ready,
                            state => state,
                        };
                        self.state = State::Chunk(Chunk::skipped(size, reply, after));
                        Next::Again
                    }
                }
            }
        }
    }

    /// If the command gives up a message of which some chunks are here already, says so and
    /// leaves the transaction.
    pub(super) fn abandon_chunks<'i>(
        &mut self,
        command: &Result<Command<'_>, CommandError>,
    ) -> Option<Next<'i>> {
        let abandons = matches!(
            command,
            Ok(Command::Rset | Command::Ehlo(_) | Command::Helo(_) | Command::Quit)
        );
        if abandons && matches!(self.state, State::BetweenChunks(..)) {
            self.state = State::Ready;
            return Some(Next::Dropped(DropReason::Abandoned));
        }
        None
    }

    fn start_tls(&self) -> Result<(), Reply> {
        if self.is_tls() {
            return Err(bad_order("TLS is active already"));
        }
        if self.config.tls == TlsPolicy::Unavailable {
            return Err(CommandError::NotImplemented.reply());
        }
        if !matches!(self.state, State::Ready) {
            return Err(bad_order("Not within a transaction"));
        }
        Ok(())
    }

    pub(super) fn needs_tls(&self) -> bool {
        self.config.tls == TlsPolicy::Required && !self.is_tls()
    }

    /// The reply to EHLO (RFC 5321 section 4.1.1.1): the extensions, one a line.
    pub(super) fn ehlo_reply(&self) -> Reply {
        let offered = self.offered();
        let mut text = String::from(&*self.config.hostname);
        for (extension, line) in [
            (Extensions::PIPELINING, "\nPIPELINING"),
            (Extensions::SIZE, "\nSIZE"),
            (Extensions::EIGHT_BIT_MIME, "\n8BITMIME"),
            (Extensions::SMTPUTF8, "\nSMTPUTF8"),
            (Extensions::ENHANCED_STATUS_CODES, "\nENHANCEDSTATUSCODES"),
            (Extensions::CHUNKING, "\nCHUNKING"),
            (Extensions::DSN, "\nDSN"),
            (Extensions::STARTTLS, "\nSTARTTLS"),
            (Extensions::AUTH, "\nAUTH PLAIN LOGIN"),
            (Extensions::FUTURE_RELEASE, "\nFUTURERELEASE"),
            // Without the name of a policy it is the usual one, MIXER (RFC 6710).
            (Extensions::MT_PRIORITY, "\nMT-PRIORITY"),
        ] {
            if !offered.contains(extension) {
                continue;
            }
            text.push_str(line);
            // Writing to a String cannot fail.
            let _infallible = match extension {
                Extensions::SIZE if self.config.content.size != 0 => {
                    write!(text, " {}", self.config.content.size)
                }
                Extensions::FUTURE_RELEASE => {
                    let most = self.config.submission.hold;
                    write!(text, " {most} {}", self.latest_release())
                }
                _ => Ok(()),
            };
        }
        Reply::plain(250, text)
    }
}
