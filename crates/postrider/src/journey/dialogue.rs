//! A conversation between a client and a server, as rows.

use postrider_protocol::queue_v1::{Attempt, DialogueLine, dialogue_line::From};

use super::time::milliseconds;
use crate::diagram::{Row, Tone, Wire};

/// Where a conversation is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Between {
    /// The lane of the client.
    pub client: usize,
    /// The lane of the server.
    pub server: usize,
    /// What the first words go over: under TLS with implicit TLS (RFC 8314), inside a server
    /// where no network is between the two.
    pub wire: Wire,
    /// Added to each line's time, in microseconds.
    pub offset_us: i64,
}

/// The rows of a whole conversation.
#[must_use]
pub fn rows(dialogue: &[DialogueLine], between: Between) -> Vec<Row> {
    let mut teller = Teller::new(between);
    let mut rows: Vec<Row> = dialogue
        .iter()
        .flat_map(|line| teller.line(line.clone()))
        .collect();
    rows.extend(teller.rest());
    rows
}

/// When the connection of an attempt was opened, in microseconds after `zero_us`. Lines of a
/// dialogue count from there, and an attempt ends with the last of them. It lies before the
/// attempt where the connection was open already.
#[must_use]
pub fn opened(attempt: &Attempt, zero_us: u64) -> i64 {
    let last_us = attempt.dialogue.last().map_or(0, |line| line.at_us);
    let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
    signed(attempt.ended_us)
        .saturating_sub(signed(zero_us))
        .saturating_sub(signed(last_us))
}

/// Turns the lines of a conversation into rows, one by one as they happen.
///
/// From STARTTLS' positive reply on (RFC 3207 section 4; STLS of RFC 2595 alike), lines are drawn
/// as being under TLS. The lines of one reply become one row: a server's list of extensions then
/// takes two rows of the drawing and not twelve. Every word stays; only the code is not repeated.
#[derive(Debug)]
pub struct Teller {
    between: Between,
    wire: Wire,
    asked_for_tls: bool,
    unfinished: Option<DialogueLine>,
}

impl Teller {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(between: Between) -> Self {
        Self {
            between,
            wire: between.wire,
            asked_for_tls: false,
            unfinished: None,
        }
    }

    /// The next line.
    pub fn line(&mut self, line: DialogueLine) -> Vec<Row> {
        let reply = match line.from() {
            From::Server => Reply::of(&line.text),
            _ => None,
        };
        let Some(reply) = reply else {
            let mut rows: Vec<Row> = self.rest().into_iter().collect();
            rows.push(self.row(&line));
            return rows;
        };
        let mut rows = Vec::new();
        let whole = match self.unfinished.take() {
            Some(mut begun) if begun.text.starts_with(reply.code) => {
                begun.text += " / ";
                begun.text += reply.words;
                begun
            }
            other => {
                rows.extend(other.map(|begun| self.row(&begun)));
                line.clone()
            }
        };
        if reply.goes_on {
            self.unfinished = Some(whole);
        } else {
            rows.push(self.row(&whole));
        }
        rows
    }

    /// What was begun and not finished.
    pub fn rest(&mut self) -> Option<Row> {
        self.unfinished.take().map(|line| self.row(&line))
    }

    fn row(&mut self, line: &DialogueLine) -> Row {
        let Between { client, server, .. } = self.between;
        let row = match line.from() {
            From::Client => {
                self.asked_for_tls = is_starttls(&line.text);
                Row::arrow(client, server, self.wire, &line.text)
            }
            From::Server => {
                let row = Row::arrow(server, client, self.wire, &line.text);
                if std::mem::take(&mut self.asked_for_tls) && is_positive(&line.text) {
                    self.wire = Wire::Tls;
                }
                row.tone(Tone::of_reply(&line.text))
            }
            From::Note | From::Unspecified => Row::remark(format!("({})", line.text)),
        };
        row.at(milliseconds(
            line.at_us.saturating_add_signed(self.between.offset_us),
        ))
    }
}

/// A line of an SMTP reply (RFC 5321 section 4.2).
struct Reply<'a> {
    code: &'a str,
    goes_on: bool,
    words: &'a str,
}

impl<'a> Reply<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (code, rest) = line.split_at_checked(3)?;
        let goes_on = rest.starts_with('-');
        let words = rest.strip_prefix(['-', ' '])?;
        code.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(Self {
                code,
                goes_on,
                words,
            })
    }
}

fn is_starttls(command: &str) -> bool {
    ["STARTTLS", "STLS"]
        .iter()
        .any(|known| command.trim().eq_ignore_ascii_case(known))
}

fn is_positive(reply: &str) -> bool {
    reply.starts_with('2') || reply.starts_with("+OK")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[(From, &str)]) -> Vec<String> {
        let dialogue: Vec<_> = lines
            .iter()
            .map(|(from, text)| DialogueLine {
                from: (*from).into(),
                text: (*text).to_owned(),
                at_us: 0,
            })
            .collect();
        let between = Between {
            client: 0,
            server: 1,
            wire: Wire::Plain,
            offset_us: 0,
        };
        rows(&dialogue, between)
            .into_iter()
            .map(|row| row.text)
            .collect()
    }

    #[test]
    fn replies_of_many_lines_are_one_row_and_lose_no_word() {
        let lines = [
            (From::Server, "250-a"),
            (From::Server, "250-B C"),
            (From::Server, "250 D"),
            (From::Server, "354-x"),
            (From::Client, "."),
            (From::Server, "250-left open"),
        ];
        assert_eq!(
            texts(&lines),
            ["250-a / B C / D", "354-x", ".", "250-left open"]
        );
    }

    #[test]
    fn odd_lines_are_taken_as_they_are() {
        let lines =
            ["", "25", "250", "250x", "\u{e9}\u{e9}", "+OK", "250-"].map(|l| (From::Server, l));
        assert_eq!(
            texts(&lines),
            ["", "25", "250", "250x", "\u{e9}\u{e9}", "+OK", "250-"]
        );
    }
}
