//! AUTH (RFC 4954), to log in at smarthosts; only under TLS.

use super::event::FailureKind;
use super::phase::Phase;
use super::session::{Session, State};
use crate::credentials::{Mechanism, encode};
use crate::output::Output;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// What was sent last.
#[derive(Debug, Clone, Copy)]
pub(super) enum Login {
    /// AUTH PLAIN with the response in the same line.
    Plain,
    /// The response again, to a server that ignored it in the command.
    PlainAgain,
    /// AUTH LOGIN.
    Command,
    User,
    Password,
}

impl Session {
    /// Sends AUTH, or fails if that can't be done.
    pub(super) fn log_in(&mut self, output: &mut Output) {
        let mechanism = self.offer.mechanism().filter(|_| self.is_tls());
        let (Some(mechanism), Some(credentials)) = (mechanism, &self.config.credentials) else {
            output.command(format_args!("QUIT"));
            let status = EnhancedStatus::transient(7, 0);
            let text = "No way to authenticate: it takes TLS and AUTH PLAIN or LOGIN";
            return self.fail(
                Phase::Ehlo,
                FailureKind::NoAuth,
                Reply::new(454, status, text),
            );
        };
        self.state = State::Login(match mechanism {
            Mechanism::Plain => {
                let response = credentials.to_plain();
                output.secret(
                    format_args!("AUTH PLAIN {}", response.as_str()),
                    "AUTH PLAIN [hidden]",
                );
                Login::Plain
            }
            Mechanism::Login => {
                output.command(format_args!("AUTH LOGIN"));
                Login::Command
            }
        });
    }

    pub(super) fn advance_login(&mut self, login: Login, reply: Reply, output: &mut Output) {
        if reply.is_positive() {
            self.state = State::Ready;
            return;
        }
        let next = self
            .config
            .credentials
            .as_ref()
            .filter(|_| reply.code() == 334);
        let next = next.and_then(|credentials| match login {
            Login::Plain => Some((credentials.to_plain(), Login::PlainAgain)),
            Login::Command => Some((encode(credentials.user.as_bytes()), Login::User)),
            Login::User => Some((encode(credentials.password.as_bytes()), Login::Password)),
            Login::PlainAgain | Login::Password => None,
        });
        match next {
            Some((response, login)) => {
                output.secret(format_args!("{}", response.as_str()), "[hidden]");
                self.state = State::Login(login);
            }
            None => {
                let kind = if reply.is_intermediate() {
                    FailureKind::Protocol
                } else {
                    FailureKind::Replied
                };
                if reply.code() != 421 {
                    output.command(format_args!("QUIT"));
                }
                self.fail(Phase::Auth, kind, reply);
            }
        }
    }
}
