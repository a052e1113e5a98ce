//! AUTH (RFC 4954): PLAIN and LOGIN, only under TLS.

use alloc::boxed::Box;
use core::mem;

use super::session::{Next, Session, State};
use crate::command::CommandError;
use crate::credentials::{Credentials, Mechanism, decode, decode_text};
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// Which response is awaited.
#[derive(Debug)]
pub(super) enum Exchange {
    Plain,
    LoginUser,
    LoginPassword { user: Box<str> },
}

/// "Username:" and "Password:" in base64.
const ASK_USER: &str = "VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

fn never(code: u16, subject: u16, detail: u16, text: &'static str) -> Reply {
    Reply::new(code, EnhancedStatus::permanent(subject, detail), text)
}

impl Session {
    /// Whether AUTH would be taken now, so that long lines may come.
    pub(super) fn may_authenticate(&self) -> bool {
        self.config.auth && self.is_tls() && !self.authenticated
    }

    pub(super) fn authenticate<'i>(
        &mut self,
        mechanism: &str,
        initial_response: Option<&str>,
        output: &mut Output,
    ) -> Next<'i> {
        let exchange = match self.begin_exchange(mechanism) {
            Ok(exchange) => exchange,
            Err(reply) => {
                self.say(&reply, output);
                return Next::Again;
            }
        };
        self.state = State::Responding(exchange);
        match initial_response {
            // RFC 4954 section 4: a lone "=" is an empty response.
            Some("=") => self.respond(b"", output),
            Some(response) => self.respond(response.as_bytes(), output),
            None => {
                let plain = matches!(self.state, State::Responding(Exchange::Plain));
                output.reply(&Reply::plain(334, if plain { "" } else { ASK_USER }));
                Next::Again
            }
        }
    }

    fn begin_exchange(&self, mechanism: &str) -> Result<Exchange, Reply> {
        if !self.config.auth {
            return Err(CommandError::NotImplemented.reply());
        }
        if !self.is_tls() {
            return Err(never(538, 7, 11, "Authentication needs TLS"));
        }
        if self.authenticated {
            return Err(never(503, 5, 1, "Authenticated already"));
        }
        if !matches!(self.state, State::Ready) {
            return Err(never(503, 5, 1, "Not within a transaction"));
        }
        if self.client.is_none() {
            return Err(never(503, 5, 1, "Send EHLO first"));
        }
        match mechanism.parse() {
            Ok(Mechanism::Plain) => Ok(Exchange::Plain),
            Ok(Mechanism::Login) => Ok(Exchange::LoginUser),
            Err(_) => Err(never(504, 5, 4, "Unknown mechanism")),
        }
    }

    /// Takes a response, in base64.
    pub(super) fn respond<'i>(&mut self, line: &[u8], output: &mut Output) -> Next<'i> {
        let State::Responding(exchange) = mem::replace(&mut self.state, State::Ready) else {
            return Next::Again;
        };
        if line == b"*" {
            self.say(&never(501, 7, 0, "Authentication cancelled"), output);
            return Next::Again;
        }
        match advance(exchange, line) {
            Some(Advance::Ask(exchange)) => {
                self.state = State::Responding(exchange);
                output.reply(&Reply::plain(334, ASK_PASSWORD));
                Next::Again
            }
            Some(Advance::Check(mechanism, credentials)) => {
                self.state = State::Authenticating(mechanism, credentials);
                Next::Ask
            }
            None => {
                self.say(&never(501, 5, 2, "Malformed response"), output);
                Next::Again
            }
        }
    }

    /// Wrong credentials.
    pub(super) fn deny(&mut self, output: &mut Output) {
        self.say(&never(535, 7, 8, "Wrong user name or password"), output);
        self.counts.auth_failures += 1;
        if self.counts.auth_failures >= self.config.limits.auth_failures {
            self.close_for("Too many failed attempts, closing", output);
        }
    }
}

enum Advance {
    Ask(Exchange),
    Check(Mechanism, Credentials),
}

/// `None` if the response is malformed.
fn advance(exchange: Exchange, line: &[u8]) -> Option<Advance> {
    let line = core::str::from_utf8(line).ok()?;
    Some(match exchange {
        Exchange::Plain => {
            Advance::Check(Mechanism::Plain, Credentials::from_plain(&decode(line)?)?)
        }
        Exchange::LoginUser => {
            let user = decode_text(line)?;
            if user.is_empty() || user.contains('\0') {
                return None;
            }
            Advance::Ask(Exchange::LoginPassword {
                user: user.as_str().into(),
            })
        }
        Exchange::LoginPassword { user } => {
            let password = decode_text(line)?;
            Advance::Check(
                Mechanism::Login,
                Credentials {
                    authorization: Box::default(),
                    user,
                    password,
                },
            )
        }
    })
}
