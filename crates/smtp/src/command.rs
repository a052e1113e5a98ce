//! Commands (RFC 5321 section 4.1) and what is wrong with lines that are none.

use crate::address::{ForwardPath, InvalidAddress, ReversePath, path_length};
use crate::ascii;
use crate::envelope::{MailParameters, RcptParameters};
use crate::extension::Extensions;
use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// A command line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `EHLO name`; the name is whatever the client calls itself.
    Ehlo(&'a str),
    /// `HELO name`
    Helo(&'a str),
    /// `LHLO name` (RFC 2033), for LMTP.
    Lhlo(&'a str),
    /// `MAIL FROM:<reverse-path> parameters`
    Mail(ReversePath, MailParameters),
    /// `RCPT TO:<forward-path> parameters`
    Rcpt(ForwardPath, RcptParameters),
    /// `DATA`
    Data,
    /// `BDAT size [LAST]` (RFC 3030)
    Bdat {
        /// Octets that follow the command line.
        size: u64,
        /// The message ends with them.
        last: bool,
    },
    /// `RSET`
    Rset,
    /// `NOOP`
    Noop,
    /// `VRFY string`
    Vrfy,
    /// `EXPN string`
    Expn,
    /// `HELP`
    Help,
    /// `QUIT`
    Quit,
    /// `STARTTLS` (RFC 3207)
    StartTls,
    /// `AUTH mechanism [initial-response]` (RFC 4954)
    Auth {
        /// The mechanism's name as it came.
        mechanism: &'a str,
        /// In base64; `=` stands for an empty one.
        initial_response: Option<&'a str>,
    },
}

/// What is wrong with a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such command.
    #[error("unknown command")]
    Unknown,
    /// A command that exists and is not implemented: TURN, ETRN, SEND and the like.
    #[error("command not implemented")]
    NotImplemented,
    /// Control characters, or bytes that are not UTF-8.
    #[error("malformed command line")]
    Malformed,
    /// Arguments are missing, or there are some where none may be.
    #[error("bad arguments")]
    Arguments,
    /// The reverse-path is malformed.
    #[error("bad reverse-path: {0}")]
    ReversePath(InvalidAddress),
    /// The forward-path is malformed.
    #[error("bad forward-path: {0}")]
    ForwardPath(InvalidAddress),
    /// A parameter that is unknown or was not offered.
    #[error("unknown parameter")]
    UnknownParameter,
    /// A parameter that has a bad value or is given twice.
    #[error("bad parameter")]
    BadParameter,
}

impl CommandError {
    /// The reply that says so (RFC 5321 section 4.2.4, RFC 3463).
    #[must_use]
    pub fn reply(self) -> Reply {
        let (code, subject, detail, text) = match self {
            Self::Unknown => (500, 5, 1, "Unknown command"),
            Self::NotImplemented => (502, 5, 1, "Command not implemented"),
            Self::Malformed => (500, 5, 2, "Malformed command line"),
            Self::Arguments => (501, 5, 4, "Bad command arguments"),
            Self::ReversePath(_) => (501, 1, 7, "Bad sender address syntax"),
            Self::ForwardPath(_) => (501, 1, 3, "Bad recipient address syntax"),
            Self::UnknownParameter => (555, 5, 4, "Unknown parameter"),
            Self::BadParameter => (501, 5, 4, "Bad parameter"),
        };
        Reply::new(code, EnhancedStatus::permanent(subject, detail), text)
    }
}

impl<'a> Command<'a> {
    /// Parses a command line without its CRLF. Parameters of extensions that were not offered
    /// are unknown.
    ///
    /// Verbs and keywords are taken in any case, spaces at the end are ignored (RFC 5321
    /// section 4.1.1), and a space after the colon of `MAIL FROM:` and `RCPT TO:`, which the
    /// grammar forbids and many clients send, is taken too.
    ///
    /// # Errors
    /// What is wrong; [`CommandError::reply`] is the reply to it.
    pub fn parse(line: &'a [u8], offered: Extensions) -> Result<Self, CommandError> {
        if ascii::has_control(line) {
            return Err(CommandError::Malformed);
        }
        let line = core::str::from_utf8(line).map_err(|_| CommandError::Malformed)?;
        let line = line.trim_end_matches(' ');
        let (verb, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let verb = Verb::find(verb).ok_or(CommandError::Unknown)?;
        let arguments = arguments.trim_start_matches(' ');
        match verb {
            Verb::Ehlo => client_name(arguments).map(Self::Ehlo),
            Verb::Helo => client_name(arguments).map(Self::Helo),
            Verb::Lhlo => client_name(arguments).map(Self::Lhlo),
            Verb::Mail => {
                let (path, parameters) = path(arguments, "FROM:")
                    .ok_or(CommandError::Arguments)?
                    .map_err(CommandError::ReversePath)?;
                let path = ReversePath::parse(path).map_err(CommandError::ReversePath)?;
                Ok(Self::Mail(
                    path,
                    MailParameters::parse(parameters, offered)?,
                ))
            }
            Verb::Rcpt => {
                let (path, parameters) = path(arguments, "TO:")
                    .ok_or(CommandError::Arguments)?
                    .map_err(CommandError::ForwardPath)?;
                let path = ForwardPath::parse(path).map_err(CommandError::ForwardPath)?;
                Ok(Self::Rcpt(
                    path,
                    RcptParameters::parse(parameters, offered)?,
                ))
            }
            Verb::Data => nothing(arguments, Self::Data),
            Verb::Bdat => bdat(arguments),
            Verb::Rset => nothing(arguments, Self::Rset),
            Verb::Quit => nothing(arguments, Self::Quit),
            Verb::StartTls => nothing(arguments, Self::StartTls),
            Verb::Noop => Ok(Self::Noop),
            Verb::Help => Ok(Self::Help),
            Verb::Vrfy if arguments.is_empty() => Err(CommandError::Arguments),
            Verb::Vrfy => Ok(Self::Vrfy),
            Verb::Expn => Ok(Self::Expn),
            Verb::Auth => auth(arguments),
            Verb::Obsolete => Err(CommandError::NotImplemented),
        }
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Ehlo,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    StartTls,
    Auth,
    /// Commands of RFC 821 and of extensions that are not offered.
    Obsolete,
}

impl Verb {
    /// The most frequent first.
    const ALL: [(&'static str, Self); 20] = [
        ("RCPT", Self::Rcpt),
        ("MAIL", Self::Mail),
        ("DATA", Self::Data),
        ("EHLO", Self::Ehlo),
        ("QUIT", Self::Quit),
        ("BDAT", Self::Bdat),
        ("RSET", Self::Rset),
        ("STARTTLS", Self::StartTls),
        ("AUTH", Self::Auth),
        ("HELO", Self::Helo),
        ("NOOP", Self::Noop),
        ("VRFY", Self::Vrfy),
        ("EXPN", Self::Expn),
        ("HELP", Self::Help),
        ("LHLO", Self::Lhlo),
        ("ETRN", Self::Obsolete),
        ("TURN", Self::Obsolete),
        ("SEND", Self::Obsolete),
        ("SOML", Self::Obsolete),
        ("SAML", Self::Obsolete),
    ];

    fn find(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name))
            .map(|(_, verb)| verb)
    }
}

/// What a client calls itself. RFC 5321 section 4.1.3 asks for a domain or an address literal
/// and section 4.1.4 forbids refusing mail because it is neither true nor known; so any one word
/// is taken, and policy may think about it what it likes.
fn client_name(arguments: &str) -> Result<&str, CommandError> {
    let one_word = !arguments.is_empty() && !arguments.contains(' ');
    if one_word && arguments.len() <= crate::address::MAX_DOMAIN {
        Ok(arguments)
    } else {
        Err(CommandError::Arguments)
    }
}

fn nothing<'a>(arguments: &str, command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if arguments.is_empty() {
        Ok(command)
    } else {
        Err(CommandError::Arguments)
    }
}

/// What is within the angle brackets, and the parameters after it. `None` without the keyword.
fn path<'a>(
    arguments: &'a str,
    keyword: &str,
) -> Option<Result<(&'a str, &'a str), InvalidAddress>> {
    let (start, rest) = arguments.split_at_checked(keyword.len())?;
    if !start.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest.trim_start_matches(' ');
    let Some(end) = path_length(rest) else {
        return Some(Err(InvalidAddress::Brackets));
    };
    let (path, parameters) = rest.split_at(end);
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return Some(Err(InvalidAddress::Brackets));
    }
    Some(Ok((&path[1..end - 1], parameters)))
}

fn bdat<'a>(arguments: &str) -> Result<Command<'a>, CommandError> {
    let (size, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let last = match rest.trim_start_matches(' ') {
        "" => false,
        word if word.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(CommandError::Arguments),
    };
    // `parse` alone would take a sign.
    if !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CommandError::Arguments);
    }
    let size = size.parse().map_err(|_| CommandError::Arguments)?;
    Ok(Command::Bdat { size, last })
}

fn auth(arguments: &str) -> Result<Command<'_>, CommandError> {
    let mut words = arguments.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(CommandError::Arguments)?;
    let initial_response = words.next();
    match words.next() {
        None => Ok(Command::Auth {
            mechanism,
            initial_response,
        }),
        Some(_) => Err(CommandError::Arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const OFFERED: Extensions = Extensions::COMMON;

    fn parse(line: &str) -> Result<Command<'_>, CommandError> {
        Command::parse(line.as_bytes(), OFFERED)
    }

    fn mail(line: &str) -> ReversePath {
        match parse(line) {
            Ok(Command::Mail(path, _)) => path,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn takes_what_the_grammar_and_the_field_allow() {
        assert_eq!(parse("EHLO client.test"), Ok(Command::Ehlo("client.test")));
        assert_eq!(
            parse("ehlo  [192.0.2.1] "),
            Ok(Command::Ehlo("[192.0.2.1]"))
        );
        assert_eq!(parse("helo my_pc"), Ok(Command::Helo("my_pc")));
        assert_eq!(parse("data  "), Ok(Command::Data));
        assert_eq!(parse("NOOP anything goes"), Ok(Command::Noop));
        assert_eq!(
            parse("bdat 12 last"),
            Ok(Command::Bdat {
                size: 12,
                last: true
            })
        );
        assert_eq!(
            parse("BDAT 0"),
            Ok(Command::Bdat {
                size: 0,
                last: false
            })
        );
        assert_eq!(
            parse("AUTH PLAIN ="),
            Ok(Command::Auth {
                mechanism: "PLAIN",
                initial_response: Some("=")
            })
        );
        assert_eq!(mail("MAIL FROM:<>"), ReversePath::Null);
        assert_eq!(mail("mail from: <a@b.c>").as_str(), "a@b.c");
        assert_eq!(
            mail("MAIL FROM:<\"x> y\"@b.c> SIZE=3").as_str(),
            "\"x> y\"@b.c"
        );
        assert_eq!(mail("MAIL FROM:<@r.example:a@b.c>").as_str(), "a@b.c");
    }

    #[test]
    fn refuses_the_rest_with_the_right_reply() {
        for (line, reply) in [
            ("", "500 5.5.1"),
            ("FOO", "500 5.5.1"),
            ("MAILFROM:<a@b.c>", "500 5.5.1"),
            ("ETRN x", "502 5.5.1"),
            ("NOOP \t", "500 5.5.2"),
            ("NOOP \0", "500 5.5.2"),
            ("EHLO", "501 5.5.4"),
            ("EHLO a b", "501 5.5.4"),
            ("DATA now", "501 5.5.4"),
            ("QUIT now", "501 5.5.4"),
            ("VRFY", "501 5.5.4"),
            ("MAIL", "501 5.5.4"),
            ("MAIL TO:<a@b.c>", "501 5.5.4"),
            ("MAIL FROM <a@b.c>", "501 5.5.4"),
            ("MAIL FROM:a@b.c", "501 5.1.7"),
            ("MAIL FROM:<a@b.c", "501 5.1.7"),
            ("MAIL FROM:<a@b.c>x", "501 5.1.7"),
            ("MAIL FROM:<bob>", "501 5.1.7"),
            ("MAIL FROM:<a@b.c> FOO=bar", "555 5.5.4"),
            ("MAIL FROM:<a@b.c> SIZE=x", "501 5.5.4"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<bob>", "501 5.1.3"),
            ("RCPT TO:<a@b.c> SIZE=1", "555 5.5.4"),
            ("BDAT", "501 5.5.4"),
            ("BDAT x", "501 5.5.4"),
            ("BDAT +1", "501 5.5.4"),
            ("BDAT 1 FIRST", "501 5.5.4"),
            ("BDAT 99999999999999999999", "501 5.5.4"),
            ("AUTH", "501 5.5.4"),
            ("AUTH PLAIN a b", "501 5.5.4"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(
                error.reply().to_string().starts_with(reply),
                "{line}: {}",
                error.reply()
            );
        }
        let error = Command::parse(b"NOOP \xff", OFFERED).unwrap_err();
        assert_eq!(error, CommandError::Malformed);
    }
}
