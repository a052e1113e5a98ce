//! The transitions: a session and one input make the next session.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::command::{Command, Malformed};
use super::session::{Action, Client, Ending, Input, ListKind, Mark, Session, State, Transaction};
use crate::accounts::AccountName;
use crate::store::{Entry, Part};

type Next = (State, Option<Action>);

/// Advances one session by one input: appends replies to `out`, and asks for at most one action.
/// Reaches no socket, clock or file.
pub(crate) fn step(
    mut session: Session,
    input: Input<'_>,
    out: &mut Vec<u8>,
) -> (Session, Option<Action>) {
    use {Input as In, State as S};
    let (state, action) = match (session.state, input) {
        // RFC 1939 section 3: whatever ends a session but QUIT deletes nothing, and an
        // autologout sends no response.
        (_, In::TimedOut) => close(Ending::TimedOut),
        (_, In::Stopping) => {
            refuse_and_close(out, "[SYS/TEMP] Server is stopping", Ending::Stopped)
        }

        (S::Authorization(client), In::Line(line)) => match Command::parse(line) {
            Ok(command) => authorization(client, command, out),
            Err(why) => malformed(
                S::Authorization(client),
                why,
                &mut session.bad_commands,
                out,
            ),
        },
        (S::Sasl(client), In::Line(line)) => sasl_response(client, line, out),
        // RFC 2595 section 4: what was said before the handshake is forgotten.
        (S::Securing, In::Secured) => (
            S::Authorization(Client {
                tls: true,
                ..Client::default()
            }),
            None,
        ),

        (S::Checking(client), In::Granted(account)) => {
            (S::Opening(client), Some(Action::Open(account)))
        }
        (S::Checking(client), In::Denied) => denied(client, session.limits.auth_failures, out),
        (S::Checking(client), In::Busy) => err(
            S::Authorization(client),
            out,
            "[SYS/TEMP] Too many logins at once, try again",
        ),
        (S::Opening(_), In::Opened(messages)) => opened(messages, out),
        (S::Opening(client), In::InUse) => err(
            S::Authorization(client),
            out,
            "[IN-USE] Another session has this maildrop",
        ),
        (S::Opening(client), In::OpenFailed) => err(
            S::Authorization(client),
            out,
            "[SYS/TEMP] The maildrop cannot be read now",
        ),

        (S::Transaction(at), In::Line(line)) => match Command::parse(line) {
            Ok(command) => transaction(at, command, out),
            Err(why) => malformed(S::Transaction(at), why, &mut session.bad_commands, out),
        },
        (S::Sending(at, index, part), In::Found) => {
            match part {
                Part::Whole => line(out, &format!("+OK {} octets", at.messages[index].size())),
                Part::Top(_) => line(out, "+OK Top of the message follows"),
            }
            (S::Sending(at, index, part), None)
        }
        (S::Sending(mut at, index, part), In::Sent) => {
            at.marks[index].retrieved |= part == Part::Whole;
            (S::Transaction(at), None)
        }
        (S::Sending(at, ..), In::NotFound) => err(
            S::Transaction(at),
            out,
            "[SYS/TEMP] The message cannot be read now",
        ),

        (S::Updating, In::Updated(0)) => {
            line(out, "+OK Goodbye");
            close(Ending::Quit)
        }
        // RFC 1939 section 6: some may be deleted, but none that was not marked.
        (S::Updating, In::Updated(_)) => refuse_and_close(
            out,
            "[SYS/TEMP] Some deleted messages were not removed",
            Ending::Quit,
        ),

        (state, In::LineTooLong) => {
            session.bad_commands += 1;
            err(state.without_challenge(), out, "Line too long")
        }
        // An answer that nobody waits for changes nothing.
        (state, _) => (state, None),
    };
    session.state = state;
    if action.is_none() && session.bad_commands >= session.limits.bad_commands {
        let (state, action) = refuse_and_close(out, "Too many bad commands", Ending::Errors);
        session.state = state;
        return (session, action);
    }
    (session, action)
}

impl State {
    /// After a challenge that was not answered properly, commands are expected again.
    fn without_challenge(self) -> Self {
        match self {
            Self::Sasl(client) => Self::Authorization(client),
            state => state,
        }
    }
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn ok(state: State, out: &mut Vec<u8>, text: &str) -> Next {
    out.extend_from_slice(b"+OK ");
    line(out, text);
    (state, None)
}

fn err(state: State, out: &mut Vec<u8>, text: &str) -> Next {
    out.extend_from_slice(b"-ERR ");
    line(out, text);
    (state, None)
}

fn close(ending: Ending) -> Next {
    (State::Closed, Some(Action::Close(ending)))
}

fn refuse_and_close(out: &mut Vec<u8>, text: &str, ending: Ending) -> Next {
    err(State::Closed, out, text);
    close(ending)
}

fn malformed(state: State, why: Malformed, count: &mut u32, out: &mut Vec<u8>) -> Next {
    *count += 1;
    match why {
        Malformed::Unknown => err(state, out, "Unknown command"),
        Malformed::Arguments => err(state, out, "Bad arguments"),
    }
}

/// A command before login.
fn authorization(mut client: Client, command: Command<'_>, out: &mut Vec<u8>) -> Next {
    use {Command as C, State as S};
    match command {
        C::Quit => {
            line(out, "+OK Goodbye");
            close(Ending::Quit)
        }
        C::Capa => {
            capabilities(!client.tls, client.tls, out);
            (S::Authorization(client), None)
        }
        C::Stls if client.tls => err(S::Authorization(client), out, "TLS is in use already"),
        C::Stls => {
            line(out, "+OK Begin TLS");
            (S::Securing, Some(Action::StartTls))
        }
        C::AuthList if client.tls => {
            line(out, "+OK Mechanisms follow\r\nPLAIN\r\n.");
            (S::Authorization(client), None)
        }
        // RFC 2595 section 2.1: a password over a plain connection is refused before it is
        // asked for, and not looked at if it comes all the same.
        C::User(_) | C::Pass(_) | C::Auth(..) | C::AuthList if !client.tls => err(
            S::Authorization(client),
            out,
            "Passwords only under TLS: use STLS first",
        ),
        C::User(name) => {
            client.user = Some(name.to_owned());
            // Whether there is such an account is not told (RFC 1939 section 7 allows this).
            ok(S::Authorization(client), out, "Password, please")
        }
        C::Pass(password) => match client.user.take() {
            None => err(S::Authorization(client), out, "USER first"),
            // Bytes that are no UTF-8 are in no password: they become characters that match none.
            Some(login) => check(
                client,
                login,
                String::from_utf8_lossy(password).into_owned(),
            ),
        },
        C::Auth(mechanism, _) if !mechanism.eq_ignore_ascii_case("PLAIN") => {
            err(S::Authorization(client), out, "Unknown mechanism")
        }
        C::Auth(_, Some(response)) => sasl_response(client, response.as_bytes(), out),
        C::Auth(_, None) => {
            line(out, "+ ");
            (S::Sasl(client), None)
        }
        _ => err(S::Authorization(client), out, "Log in first"),
    }
}

/// The response to AUTH PLAIN (RFC 4616): authorization identity, account, password.
fn sasl_response(client: Client, response: &[u8], out: &mut Vec<u8>) -> Next {
    if response == b"*" {
        return err(
            State::Authorization(client),
            out,
            "Authentication cancelled",
        );
    }
    let decoded = STANDARD.decode(response).map(Zeroizing::new);
    let fields = decoded.as_ref().ok().and_then(|bytes| {
        let mut fields = bytes.splitn(3, |byte| *byte == 0).map(std::str::from_utf8);
        match (fields.next()?, fields.next()?, fields.next()?) {
            (Ok(identity), Ok(login), Ok(password)) => Some((identity, login, password)),
            _ => None,
        }
    });
    match fields {
        None => err(State::Authorization(client), out, "Malformed response"),
        // One account cannot act for another.
        Some((identity, login, _)) if !identity.is_empty() && !same(identity, login) => err(
            State::Authorization(client),
            out,
            "[AUTH] Not allowed to act for that account",
        ),
        Some((_, login, password)) => check(client, login.to_owned(), password.to_owned()),
    }
}

fn same(a: &str, b: &str) -> bool {
    a == b || AccountName::parse(a).is_some_and(|a| Some(a) == AccountName::parse(b))
}

fn check(client: Client, login: String, password: String) -> Next {
    let action = Action::Check {
        login,
        password: Zeroizing::new(password),
        failures: client.failures,
    };
    (State::Checking(client), Some(action))
}

fn denied(mut client: Client, limit: u32, out: &mut Vec<u8>) -> Next {
    client.failures += 1;
    let text = "[AUTH] Wrong name or password";
    if client.failures >= limit {
        return refuse_and_close(out, text, Ending::Errors);
    }
    err(State::Authorization(client), out, text)
}

fn opened(messages: Vec<Entry>, out: &mut Vec<u8>) -> Next {
    let at = Box::new(Transaction {
        marks: vec![Mark::default(); messages.len()],
        messages,
    });
    let (messages, octets) = at.totals();
    ok(
        State::Transaction(at),
        out,
        &format!("{messages} messages ({octets} octets)"),
    )
}

/// A command after login.
fn transaction(mut at: Box<Transaction>, command: Command<'_>, out: &mut Vec<u8>) -> Next {
    use {Command as C, State as S};
    match command {
        C::Stat => {
            let (messages, octets) = at.totals();
            ok(S::Transaction(at), out, &format!("{messages} {octets}"))
        }
        C::List(None) => {
            let (messages, octets) = at.totals();
            line(out, &format!("+OK {messages} messages ({octets} octets)"));
            (S::Transaction(at), Some(Action::List(ListKind::Sizes)))
        }
        C::Uidl(None) => {
            line(out, "+OK Unique ids follow");
            (S::Transaction(at), Some(Action::List(ListKind::UniqueIds)))
        }
        C::List(Some(number)) => one(at, number, ListKind::Sizes, out),
        C::Uidl(Some(number)) => one(at, number, ListKind::UniqueIds, out),
        C::Retr(number) => send(at, number, Part::Whole, out),
        C::Top(number, lines) => send(at, number, Part::Top(lines), out),
        C::Dele(number) => match at.index(number) {
            Some(index) => {
                at.marks[index].deleted = true;
                ok(S::Transaction(at), out, "Message deleted")
            }
            None => no_message(at, out),
        },
        C::Rset => {
            at.marks.iter_mut().for_each(|mark| mark.deleted = false);
            let (messages, octets) = at.totals();
            ok(
                S::Transaction(at),
                out,
                &format!("{messages} messages ({octets} octets)"),
            )
        }
        C::Noop => ok(S::Transaction(at), out, "Still here"),
        C::Capa => {
            // Nobody logs in without TLS, so there is nothing more to be had by STLS.
            capabilities(false, true, out);
            (S::Transaction(at), None)
        }
        C::Quit => {
            let action = Action::Update {
                deleted: at.marked(|mark| mark.deleted),
                retrieved: at.marked(|mark| mark.retrieved && !mark.deleted),
            };
            (S::Updating, Some(action))
        }
        C::Stls | C::User(_) | C::Pass(_) | C::Auth(..) | C::AuthList => {
            err(S::Transaction(at), out, "Logged in already")
        }
    }
}

/// One line of a listing.
fn one(at: Box<Transaction>, number: u32, kind: ListKind, out: &mut Vec<u8>) -> Next {
    match at.index(number) {
        Some(index) => {
            out.extend_from_slice(b"+OK ");
            kind.write_line(index, &at.messages[index], out);
            (State::Transaction(at), None)
        }
        None => no_message(at, out),
    }
}

fn send(at: Box<Transaction>, number: u32, part: Part, out: &mut Vec<u8>) -> Next {
    match at.index(number) {
        Some(index) => {
            let entry = at.messages[index].clone();
            (
                State::Sending(at, index, part),
                Some(Action::Send(entry, part)),
            )
        }
        None => no_message(at, out),
    }
}

fn no_message(at: Box<Transaction>, out: &mut Vec<u8>) -> Next {
    err(State::Transaction(at), out, "No such message")
}

/// What CAPA answers (RFC 2449). Passwords are offered only where they are taken.
fn capabilities(stls: bool, passwords: bool, out: &mut Vec<u8>) {
    line(out, "+OK Capabilities follow");
    line(
        out,
        "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER",
    );
    if stls {
        line(out, "STLS");
    }
    if passwords {
        line(out, "USER\r\nSASL PLAIN");
    }
    line(out, "IMPLEMENTATION Postrider\r\n.");
}
