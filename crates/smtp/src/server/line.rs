//! Lines: from bytes to commands, and what is no SMTP at all.

use super::session::{Next, Session, State};
use crate::command::{Command, CommandError};
use crate::outline::Speaker;
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// Octets of one overlong line that are skipped before the session ends.
const MAX_SKIPPED: usize = 1024 * 1024;

/// A line that passed its limit, whose rest is being skipped.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Overlong {
    skipped: usize,
    after_cr: bool,
}

enum Line<'i> {
    /// Without its CRLF.
    Whole(&'i [u8]),
    NeedMore,
    /// It has ended now.
    TooLong,
    /// A LF without CR. Whether it was meant to end a line cannot be known, so nothing that
    /// follows can be understood with certainty.
    BareLineFeed,
    /// It does not even end.
    Endless,
}

impl Session {
    /// Takes one line, a command or a response of AUTH.
    pub(super) fn receive_line<'i>(
        &mut self,
        input: &'i [u8],
        output: &mut Output,
    ) -> (usize, Next<'i>) {
        // The first octets of a TLS handshake record; no command begins so.
        if self.overlong.is_none() && input.first() == Some(&0x16) {
            return self.give_up(5, 1, "TLS was not expected here; use STARTTLS", output);
        }
        let (length, line) = self.split_line(input);
        let next = match line {
            Line::Whole(line) => match &self.state {
                State::Responding(_) => {
                    output.outline.push(Speaker::Client, "[hidden]");
                    self.respond(line, output)
                }
                _ => return self.receive_command(line, length, output),
            },
            Line::NeedMore => Next::NeedMore,
            Line::TooLong => {
                output
                    .outline
                    .push(Speaker::Client, "[a line that is too long]");
                if matches!(self.state, State::Responding(_)) {
                    self.state = State::Ready;
                }
                let status = EnhancedStatus::permanent(5, 2);
                self.say(&Reply::new(500, status, "Line is too long"), output);
                Next::Again
            }
            Line::BareLineFeed => return self.give_up(5, 2, "Lines must end in CRLF", output),
            Line::Endless => return self.give_up(5, 2, "Line is too long", output),
        };
        (length, next)
    }

    fn split_line<'i>(&mut self, input: &'i [u8]) -> (usize, Line<'i>) {
        let limit = if matches!(self.state, State::Responding(_)) || self.may_authenticate() {
            self.config.limits.auth_line
        } else {
            self.config.limits.command_line
        };
        if self.overlong.is_none() {
            let window = &input[..input.len().min(limit)];
            match memchr::memchr(b'\n', window) {
                Some(0) => return (1, Line::BareLineFeed),
                Some(end) if window[end - 1] == b'\r' => {
                    return (end + 1, Line::Whole(&window[..end - 1]));
                }
                Some(end) => return (end + 1, Line::BareLineFeed),
                None if input.len() < limit => return (0, Line::NeedMore),
                None => {}
            }
        }
        let mut overlong = self.overlong.take().unwrap_or_default();
        if let Some(end) = memchr::memchr(b'\n', input) {
            let after_cr = match end.checked_sub(1) {
                Some(before) => input[before] == b'\r',
                None => overlong.after_cr,
            };
            return (
                end + 1,
                if after_cr {
                    Line::TooLong
                } else {
                    Line::BareLineFeed
                },
            );
        }
        overlong.skipped += input.len();
        if let Some(last) = input.last() {
            overlong.after_cr = *last == b'\r';
        }
        if overlong.skipped > MAX_SKIPPED {
            return (input.len(), Line::Endless);
        }
        self.overlong = Some(overlong);
        (input.len(), Line::NeedMore)
    }

    fn receive_command<'i>(
        &mut self,
        line: &'i [u8],
        length: usize,
        output: &mut Output,
    ) -> (usize, Next<'i>) {
        let command = Command::parse(line, self.offered());
        if command.is_err() && is_http(line) {
            return self.give_up(5, 1, "This is a mail server", output);
        }
        // A command that gives up a half-transferred message: the driver hears of it first, and
        // the line is taken again in the state that follows from it.
        if let Some(next) = self.abandon_chunks(&command) {
            return (0, next);
        }
        if matches!(command, Ok(Command::Mail(..))) && matches!(self.state, State::Ready) {
            output.outline.begin_transaction();
        }
        outline(line, &command, output);
        if !matches!(
            command,
            Ok(Command::Rcpt(..) | Command::Bdat { size: 1.., .. })
        ) {
            self.counts.commands += 1;
            if self.counts.commands > self.config.limits.commands {
                self.close_for("Too many commands without mail, closing", output);
                return (length, Next::Again);
            }
        }
        let next = match command {
            Ok(command) => self.step(command, output),
            // How many octets follow cannot be known, so they might be taken for commands.
            Err(error) if is_bdat(line) => {
                self.close(&error.reply(), output);
                Next::Again
            }
            Err(error) => {
                if starts_with(line, b"MAIL") && matches!(self.state, State::Ready) {
                    self.mail_begins();
                }
                self.say(&error.reply(), output);
                Next::Again
            }
        };
        (length, next)
    }

    /// Ends a session in which nothing that follows can be understood.
    fn give_up<'i>(
        &mut self,
        subject: u16,
        detail: u16,
        text: &'static str,
        output: &mut Output,
    ) -> (usize, Next<'i>) {
        output.outline.push(Speaker::Client, "[not SMTP]");
        let status = EnhancedStatus::permanent(subject, detail);
        self.close(&Reply::new(554, status, text), output);
        (0, Next::Again)
    }
}

/// Shows a command without secrets: whatever follows a mechanism, and whatever is unknown and may
/// be a response of AUTH that came too late.
fn outline(line: &[u8], command: &Result<Command<'_>, CommandError>, output: &mut Output) {
    let outline = &mut output.outline;
    match command {
        Ok(Command::Auth {
            mechanism,
            initial_response: Some(_),
        }) => {
            let shown = line.len().min("AUTH ".len() + mechanism.len());
            outline.push_bytes(Speaker::Client, &line[..shown]);
            outline.append(" [hidden]");
        }
        Err(CommandError::Unknown | CommandError::Malformed) => {
            outline.push(Speaker::Client, "[unknown command]");
        }
        Err(_) if starts_with(line, b"AUTH") => outline.push(Speaker::Client, "AUTH [hidden]"),
        _ => outline.push_bytes(Speaker::Client, line),
    }
}

/// Whether it is a request line of HTTP, sent by a browser that was made to
/// (or by somebody who has the wrong port).
fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"OPTIONS ",
        b"CONNECT ",
        b"DELETE ",
        b"PATCH ",
        b"PRI ",
    ];
    METHODS.iter().any(|method| line.starts_with(method))
}

fn is_bdat(line: &[u8]) -> bool {
    starts_with(line, b"BDAT") && matches!(line.get(4), None | Some(b' '))
}

fn starts_with(line: &[u8], word: &[u8]) -> bool {
    line.get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}
