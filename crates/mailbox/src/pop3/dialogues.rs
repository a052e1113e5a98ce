//! Dialogues as text files (`dialogues/*.txt`), played against the session.
//!
//! A file begins with `#` lines: a title and the RFC section. Then follow `C:` what the client
//! sends, `S:` what the server must reply, each a line; and `!` what the driver answers to the
//! session's last question, which must be the one that the answer fits:
//! `! secured`, `! granted <account>`, `! denied`, `! busy`, `! opened <sizes>`, `! in-use`,
//! `! open-failed`, `! found`, `! not-found`, `! sent`, `! updated <failures>`, `! timed-out`,
//! `! stopping`. A line `= closed <ending>` says that the session must have ended so. The option
//! `# tls` starts under TLS.

use proptest::prelude::*;

use super::line::{Line, LineBuffer};
use super::session::{Action, Ending, Input, Limits, Session};
use super::step::step;
use crate::accounts::AccountName;
use crate::store::Entry;

const LIMITS: Limits = Limits {
    auth_failures: 3,
    bad_commands: 4,
};

/// A session with a driver that does nothing but take down.
struct Player {
    session: Session,
    lines: LineBuffer,
    out: Vec<u8>,
    asked: Option<Action>,
}

impl Player {
    fn new(tls: bool) -> Self {
        let mut out = Vec::new();
        Self {
            session: Session::greet(tls, LIMITS, "mail.test", &mut out),
            lines: LineBuffer::default(),
            out,
            asked: None,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.lines.space().extend_from_slice(bytes);
        self.go_on();
    }

    /// Feeds the lines that are there, as far as the session wants them.
    fn go_on(&mut self) {
        while self.session.wants_line() {
            let taken = std::mem::replace(&mut self.session, Session::closed());
            let input = match self.lines.next_line() {
                None => {
                    self.session = taken;
                    return;
                }
                Some(Line::Whole(line)) => Input::Line(line),
                Some(Line::TooLong) => Input::LineTooLong,
            };
            let (next, action) = step(taken, input, &mut self.out);
            self.session = next;
            self.ask(action);
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        let taken = std::mem::replace(&mut self.session, Session::closed());
        let (next, action) = step(taken, input, &mut self.out);
        self.session = next;
        self.ask(action);
    }

    fn ask(&mut self, action: Option<Action>) {
        match action {
            Some(Action::List(kind)) => {
                // In the smallest pieces.
                let mut from = Some(0);
                while let Some(index) = from {
                    let enough = self.out.len() + 1;
                    from = self.session.listing(kind, index, enough, &mut self.out);
                }
            }
            Some(Action::StartTls) => {
                self.lines.clear();
                self.asked = Some(Action::StartTls);
            }
            Some(action) => self.asked = Some(action),
            None => {}
        }
    }

    /// The driver's answer to what was asked.
    fn answer(&mut self, answer: &str) {
        let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
        let asked = self.asked.take();
        let input = match (word, asked) {
            ("secured", Some(Action::StartTls)) => Input::Secured,
            ("granted", Some(Action::Check { .. })) => {
                Input::Granted(AccountName::parse(rest).unwrap())
            }
            ("denied", Some(Action::Check { .. })) => Input::Denied,
            ("busy", Some(Action::Check { .. })) => Input::Busy,
            ("opened", Some(Action::Open(_))) => Input::Opened(messages(rest)),
            ("in-use", Some(Action::Open(_))) => Input::InUse,
            ("open-failed", Some(Action::Open(_))) => Input::OpenFailed,
            ("found", Some(action @ Action::Send(..))) => {
                self.asked = Some(action);
                Input::Found
            }
            ("not-found", Some(Action::Send(..))) => Input::NotFound,
            ("sent", Some(Action::Send(..))) => Input::Sent,
            ("updated", Some(Action::Update { deleted, retrieved })) => {
                let (counts, failed) = rest.split_once(" failed ").unwrap_or((rest, "0"));
                let found = format!("{} deleted {} retrieved", deleted.len(), retrieved.len());
                assert_eq!(found, counts);
                Input::Updated(failed.parse().unwrap())
            }
            ("timed-out", _) => Input::TimedOut,
            ("stopping", _) => Input::Stopping,
            (_, asked) => panic!("{answer:?} does not answer {asked:?}"),
        };
        self.feed(input);
        self.go_on();
    }

    fn ending(&self) -> Option<Ending> {
        match &self.asked {
            Some(Action::Close(ending)) => Some(*ending),
            _ => None,
        }
    }
}

fn messages(sizes: &str) -> Vec<Entry> {
    let sizes = sizes.split_whitespace().enumerate();
    sizes
        .map(|(n, size)| Entry::for_test(&format!("1.unique{}", n + 1), size.parse().unwrap()))
        .collect()
}

fn play(text: &str) {
    let tls = text.lines().any(|line| line == "# tls");
    let mut player = Player::new(tls);
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "C:" => player.receive(format!("{rest}\r\n").as_bytes()),
            "S:" => {
                let end = memchr::memchr(b'\n', &player.out).expect(rest);
                let reply: Vec<u8> = player.out.drain(..=end).collect();
                assert_eq!(String::from_utf8_lossy(&reply), format!("{rest}\r\n"));
            }
            "!" => {
                assert!(
                    player.out.is_empty(),
                    "before {line:?}: {player_out}",
                    player_out = String::from_utf8_lossy(&player.out)
                );
                player.answer(rest);
            }
            "=" => {
                let ending = player.ending().map(Ending::label);
                assert_eq!(format!("closed {}", ending.unwrap_or("not")), rest);
            }
            "#" | "" => {}
            kind => panic!("{kind:?} in {line:?}"),
        }
    }
    assert_eq!(String::from_utf8_lossy(&player.out), "");
}

#[test]
fn dialogues_are_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pop3/dialogues");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        play(&std::fs::read_to_string(path).unwrap());
        played += 1;
    }
    assert!(played >= 10, "{played}");
}

/// Answers whatever the session asks by what its own text says, so that equal input has equal
/// answers.
fn answer_by_itself(player: &mut Player) {
    while let Some(asked) = &player.asked {
        let answer = match asked {
            Action::StartTls => "secured",
            Action::Check {
                login, password, ..
            } => match (login.as_str(), password.as_str()) {
                ("alice@c.test", "secret") => "granted alice@c.test",
                _ => "denied",
            },
            Action::Open(_) => "opened 100 200 300",
            Action::Send(..) => "found",
            Action::Update { .. } => {
                player.asked = None;
                player.feed(Input::Updated(0));
                continue;
            }
            Action::List(_) | Action::Close(_) => return,
        };
        player.answer(answer);
        if answer == "found" {
            player.answer("sent");
        }
    }
}

fn transcript(chunks: &[&[u8]]) -> (Vec<u8>, Option<Ending>) {
    let mut player = Player::new(true);
    for chunk in chunks {
        player.receive(chunk);
        answer_by_itself(&mut player);
    }
    let ending = player.ending();
    (player.out, ending)
}

/// Lines that a client might send, sensible or not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "CAPA",
        "USER alice@c.test",
        "PASS secret",
        "PASS wrong",
        "AUTH PLAIN",
        "AUTH",
        "*",
        "AUTH PLAIN AGFsaWNlQGMudGVzdABzZWNyZXQ=",
        "AGFsaWNlQGMudGVzdABzZWNyZXQ=",
        "STAT",
        "LIST",
        "LIST 2",
        "UIDL",
        "UIDL 9",
        "RETR 1",
        "TOP 2 5",
        "DELE 1",
        "DELE 1",
        "RSET",
        "NOOP",
        "QUIT",
        "STLS",
    ]);
    prop_oneof![
        6 => known.prop_map(|line| line.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (1_900_usize..2_200).prop_map(|n| vec![b'A'; n]),
    ]
}

proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same_output(
        lines in prop::collection::vec(line(), 0..25),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut all = Vec::new();
        // The usual way in, so that most runs get to see a maildrop.
        all.extend_from_slice(b"USER alice@c.test\r\nPASS secret\r\n");
        for line in &lines {
            all.extend_from_slice(line);
            all.extend_from_slice(b"\r\n");
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
        at.extend([0, all.len()]);
        at.sort_unstable();
        let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &all[pair[0]..pair[1]]).collect();
        let whole = transcript(&[&all]);
        prop_assert_eq!(transcript(&chunks), whole.clone());
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        prop_assert_eq!(transcript(&bytes), whole);
    }

    #[test]
    fn any_input_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..3_000), tls in any::<bool>()) {
        let mut player = Player::new(tls);
        player.receive(&bytes);
        answer_by_itself(&mut player);
        prop_assert!(player.out.starts_with(b"+OK"));
        prop_assert!(player.out.ends_with(b"\r\n"));
    }
}
