//! The command grammar (RFC 1939 section 9, RFC 2449, RFC 2595, RFC 5034).

/// A command, parsed. Text borrows from the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Capa,
    Stls,
    User(&'a str),
    /// Everything after the blank: a password may hold blanks (RFC 1939 section 7).
    Pass(&'a [u8]),
    /// No mechanism: the client asks which there are (an old habit, still in use).
    AuthList,
    /// Mechanism and initial response.
    Auth(&'a str, Option<&'a str>),
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    Top(u32, u32),
    Dele(u32),
    Noop,
    Rset,
    Quit,
}

/// A line that is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    Unknown,
    Arguments,
}

impl<'a> Command<'a> {
    /// Parses a line without its line end.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let blank = line.iter().position(|byte| *byte == b' ');
        let (keyword, rest) = match blank {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (line, None),
        };
        // The longest keyword has four letters (RFC 1939 section 3).
        let mut upper = [0; 4];
        let upper = upper.get_mut(..keyword.len()).ok_or(Malformed::Unknown)?;
        upper.copy_from_slice(keyword);
        upper.make_ascii_uppercase();
        let arguments = Arguments(rest);
        match &*upper {
            b"CAPA" => arguments.none(Self::Capa),
            b"STLS" => arguments.none(Self::Stls),
            b"STAT" => arguments.none(Self::Stat),
            b"NOOP" => arguments.none(Self::Noop),
            b"RSET" => arguments.none(Self::Rset),
            b"QUIT" => arguments.none(Self::Quit),
            b"USER" => arguments.name().map(Self::User),
            b"PASS" => rest.map(Self::Pass).ok_or(Malformed::Arguments),
            b"AUTH" => arguments.auth(),
            b"LIST" => arguments.optional_number().map(Self::List),
            b"UIDL" => arguments.optional_number().map(Self::Uidl),
            b"RETR" => arguments.number().map(Self::Retr),
            b"DELE" => arguments.number().map(Self::Dele),
            b"TOP" => arguments
                .two_numbers()
                .map(|(n, lines)| Self::Top(n, lines)),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// What follows the keyword and its blank.
#[derive(Clone, Copy)]
struct Arguments<'a>(Option<&'a [u8]>);

impl<'a> Arguments<'a> {
    /// Blanks around are forgiven everywhere.
    fn text(self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.0.unwrap_or_default());
        let text = text.map_err(|_| Malformed::Arguments)?.trim_matches(' ');
        if text.chars().any(char::is_control) {
            return Err(Malformed::Arguments);
        }
        Ok(text)
    }

    fn none(self, command: Command<'a>) -> Result<Command<'a>, Malformed> {
        match self.text()? {
            "" => Ok(command),
            _ => Err(Malformed::Arguments),
        }
    }

    fn name(self) -> Result<&'a str, Malformed> {
        match self.text()? {
            "" => Err(Malformed::Arguments),
            text => Ok(text),
        }
    }

    fn auth(self) -> Result<Command<'a>, Malformed> {
        let mut words = self.text()?.split(' ').filter(|word| !word.is_empty());
        match (words.next(), words.next(), words.next()) {
            (None, _, _) => Ok(Command::AuthList),
            (Some(mechanism), initial, None) => Ok(Command::Auth(mechanism, initial)),
            _ => Err(Malformed::Arguments),
        }
    }

    fn optional_number(self) -> Result<Option<u32>, Malformed> {
        match self.text()? {
            "" => Ok(None),
            text => number(text).map(Some),
        }
    }

    fn number(self) -> Result<u32, Malformed> {
        number(self.text()?)
    }

    fn two_numbers(self) -> Result<(u32, u32), Malformed> {
        let (first, second) = self.text()?.split_once(' ').ok_or(Malformed::Arguments)?;
        Ok((number(first)?, number(second.trim_matches(' '))?))
    }
}

/// Digits only: no sign, which Rust's own parser would take.
fn number(text: &str) -> Result<u32, Malformed> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed::Arguments);
    }
    text.parse().map_err(|_| Malformed::Arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse() {
        for (line, command) in [
            ("CAPA", Command::Capa),
            ("quit", Command::Quit),
            ("QUIT  ", Command::Quit),
            ("User alice", Command::User("alice")),
            ("PASS  two  blanks ", Command::Pass(b" two  blanks ")),
            ("LIST", Command::List(None)),
            ("LIST 7", Command::List(Some(7))),
            ("TOP 1 0", Command::Top(1, 0)),
            ("AUTH", Command::AuthList),
            ("AUTH PLAIN", Command::Auth("PLAIN", None)),
            ("auth plain AGE=", Command::Auth("plain", Some("AGE="))),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn nonsense_does_not() {
        for line in [
            "USER",
            "PASS",
            "RETR",
            "RETR x",
            "RETR +1",
            "RETR -1",
            "RETR 4294967296",
            "TOP 1",
            "TOP 1 2 3",
            "STAT 1",
            "AUTH a b c",
            "USER a\tb",
            "DELE 1 2",
        ] {
            let parsed = Command::parse(line.as_bytes());
            assert_eq!(parsed, Err(Malformed::Arguments), "{line}");
        }
        for line in [
            "",
            " ",
            "XTND",
            "RETRIEVE 1",
            "GET / HTTP/1.1",
            "\u{16}\u{3}\u{1}",
        ] {
            let parsed = Command::parse(line.as_bytes());
            assert_eq!(parsed, Err(Malformed::Unknown), "{line}");
        }
        assert!(Command::parse(b"USER \xff").is_err());
    }
}
