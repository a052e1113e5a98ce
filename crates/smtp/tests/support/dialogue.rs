//! Dialogues as text files. `tests/dialogues/README.md` describes the format.

use std::sync::Arc;

use postrider_smtp::client::{ClientConfig, Failure, Message, Outcome, TlsUse};
use postrider_smtp::command::Command;
use postrider_smtp::credentials::Credentials;
use postrider_smtp::envelope::{Envelope, Recipient};
use postrider_smtp::extension::Extensions;
use postrider_smtp::server::{TlsPolicy, Transport};

use super::client::{self, Client};
use super::server::{self, Server};

/// A dialogue, and how its bytes are cut.
pub struct Script<'a> {
    settings: Vec<&'a str>,
    steps: Vec<(usize, Step<'a>)>,
    bytewise: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step<'a> {
    Client(&'a str, bool),
    Server(&'a str, bool),
    Do(&'a str),
}

/// Runs one file; panics with the number of the line that does not hold.
pub fn run(text: &str) {
    for bytewise in [false, true] {
        let script = Script::parse(text, bytewise);
        match script.settings.first() {
            Some(&"server") => script.run_server(),
            Some(&"client") => script.run_client(),
            other => panic!("side is server or client, not {other:?}"),
        }
    }
}

impl<'a> Script<'a> {
    fn parse(text: &'a str, bytewise: bool) -> Self {
        let mut lines = text.lines().enumerate();
        let title = lines.next().map_or("", |(_, line)| line);
        assert!(
            title.starts_with("# ") && title.len() > 10,
            "the first line is a title"
        );
        let rfc = lines.next().map_or("", |(_, line)| line);
        assert!(
            rfc.starts_with("# RFC "),
            "the second line names the RFC and section"
        );
        let mut settings = Vec::new();
        let mut steps = Vec::new();
        for (index, line) in lines {
            let step = match line.split_once(' ').unwrap_or((line, "")) {
                ("" | "#", _) => continue,
                ("side:", rest) => {
                    settings.extend(rest.split_whitespace());
                    continue;
                }
                ("C:", rest) => Step::Client(rest, true),
                ("C+", rest) => Step::Client(rest, false),
                ("S:", rest) => Step::Server(rest, true),
                ("S+", rest) => Step::Server(rest, false),
                ("=", rest) => Step::Do(rest),
                _ => panic!("line {}: {line}", index + 1),
            };
            steps.push((index + 1, step));
        }
        Self {
            settings,
            steps,
            bytewise,
        }
    }

    fn has(&self, setting: &str) -> bool {
        self.settings.contains(&setting)
    }

    fn setting(&self, name: &str) -> Option<usize> {
        let value = self
            .settings
            .iter()
            .find_map(|setting| setting.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value.parse().expect("a number"))
    }

    fn run_server(&self) {
        let mut config = server::config();
        config.auth_required = self.has("auth-required");
        config.auth = !self.has("no-auth");
        if self.has("no-tls") {
            config.tls = TlsPolicy::Unavailable;
        } else if self.has("tls-required") {
            config.tls = TlsPolicy::Required;
        }
        for (name, value) in [
            ("errors", &mut config.limits.errors),
            ("commands", &mut config.limits.commands),
        ] {
            *value = self
                .setting(name)
                .map_or(*value, |n| u32::try_from(n).expect("small"));
        }
        config.submission.hold = self
            .setting("hold")
            .map_or(0, |n| u32::try_from(n).expect("small"));
        config.submission.priority = self.has("priority");
        config.limits.recipients = self.setting("recipients").unwrap_or(1000);
        config.content.size = self.setting("size").map_or(100_000, |n| n as u64);
        config.content.line = self
            .setting("line")
            .map_or(4096, |n| u32::try_from(n).expect("small"));
        if self.has("no-chunking") {
            config.extensions = config.extensions.without(Extensions::CHUNKING);
        }
        let transport = if self.has("tls") {
            Transport::Tls
        } else {
            Transport::Plain
        };
        let mut server = Server::new(config, transport);
        let mut said = Said::default();
        let mut pending = Vec::new();
        for &(line, step) in &self.steps {
            if let Step::Client(text, crlf) = step {
                pending.extend(bytes(text, crlf));
                continue;
            }
            let pieces: &[u8] = if self.bytewise { &[1] } else { &[] };
            for piece in super::cut(&std::mem::take(&mut pending), pieces) {
                server.receive(piece);
            }
            match step {
                Step::Client(..) => {}
                Step::Server(expected, _) => {
                    said.extend(server.take_output());
                    said.expect(line, expected);
                }
                Step::Do(what) => {
                    said.extend(server.take_output());
                    said.expect_nothing(line);
                    self.do_server(line, what, &mut server);
                }
            }
        }
        assert!(pending.is_empty(), "the last line is not the client's");
        said.extend(server.take_output());
        said.expect_nothing(0);
    }

    fn do_server(&self, line: usize, what: &str, server: &mut Server) {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        match verb {
            "tls" => {
                assert_eq!(server.pause, server::Pause::Handshake, "line {line}");
                server.tls_established();
            }
            "timeout" => server.time_out(),
            "shutdown" => server.shut_down(),
            "closed" => assert_eq!(server.pause, server::Pause::Closed, "line {line}"),
            "open" => assert_eq!(server.pause, server::Pause::Input, "line {line}"),
            "dropped" => assert_eq!(server.dropped.to_string(), rest, "line {line}"),
            "messages" => assert_eq!(server.stored.len().to_string(), rest, "line {line}"),
            "content" => {
                let content = server.stored.last().map(|stored| stored.content.clone());
                assert_eq!(content, Some(bytes(rest, false)), "line {line}");
            }
            "envelope" => {
                let envelope = &server.stored.last().expect("a message").envelope;
                let mut shown = format!("{}{}", envelope.reverse_path, envelope.parameters);
                for recipient in &envelope.recipients {
                    shown += &format!(" {}{}", recipient.path, recipient.parameters);
                }
                assert_eq!(shown, rest, "line {line}");
            }
            "outline" => {
                let lines: Vec<_> = server
                    .output
                    .outline
                    .lines()
                    .map(|shown| shown.text)
                    .collect();
                assert!(lines.contains(&rest), "line {line}: not in {lines:#?}");
            }
            "hidden" => {
                let shown = server
                    .output
                    .outline
                    .lines()
                    .any(|shown| shown.text.contains(rest));
                assert!(!shown, "line {line}: in the outline");
            }
            _ => panic!("line {line}: {what}"),
        }
    }

    fn run_client(&self) {
        let mut config = ClientConfig::new("client.test");
        if self.has("no-tls") {
            config.tls = TlsUse::Never;
        } else if self.has("tls-required") {
            config.tls = TlsUse::Required;
        }
        if self.has("log-in") {
            config.credentials = Some(Credentials::new("bob", "secret"));
        }
        let transport = if self.has("tls") {
            Transport::Tls
        } else {
            Transport::Plain
        };
        let mut client = Client::new(config, transport);
        let mut said = Said::default();
        let mut outcomes = Vec::new().into_iter();
        let mut pending = Vec::new();
        for &(line, step) in &self.steps {
            if let Step::Server(text, crlf) = step {
                pending.extend(bytes(text, crlf));
                continue;
            }
            let pieces: &[u8] = if self.bytewise { &[1] } else { &[] };
            for piece in super::cut(&std::mem::take(&mut pending), pieces) {
                client.receive(piece);
            }
            said.extend(client.take_output());
            match step {
                Step::Server(..) => {}
                Step::Client(expected, _) => said.expect(line, expected),
                Step::Do(what) => {
                    said.expect_nothing(line);
                    if what.starts_with("outcome") {
                        if outcomes.len() == 0 {
                            assert!(!client.finished.is_empty(), "line {line}: no outcome yet");
                            outcomes = client.finished.remove(0).into_iter();
                        }
                        let outcome = outcomes.next().expect("an outcome");
                        assert_eq!(format!("outcome {}", show(&outcome)), what, "line {line}");
                    } else {
                        self.do_client(line, what, &mut client);
                    }
                }
            }
        }
        assert!(pending.is_empty(), "the last line is not the server's");
        said.extend(client.take_output());
        said.expect_nothing(0);
        assert!(
            client.finished.is_empty() && outcomes.len() == 0,
            "more outcomes"
        );
    }

    fn do_client(&self, line: usize, what: &str, client: &mut Client) {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        match verb {
            "tls" => {
                assert_eq!(client.pause, client::Pause::Handshake, "line {line}");
                client.tls_established();
            }
            "send" => {
                assert_eq!(client.pause, client::Pause::Ready, "line {line}");
                let (envelope, content) = rest.split_once(" | ").unwrap_or((rest, "Hello\\r\\n"));
                let content = bytes(content, false);
                let envelope = Arc::new(parse_envelope(envelope));
                let size = self
                    .setting("message-size")
                    .map_or(content.len() as u64, |n| n as u64);
                let pieces: &[u8] = if self.bytewise { &[1] } else { &[] };
                client.send(Message { envelope, size }, &content, pieces);
            }
            "quit" => client.quit(),
            "lost" => client.lost(rest),
            "cut" => client.cut(),
            "ready" => assert_eq!(client.pause, client::Pause::Ready, "line {line}"),
            "closed" => assert_eq!(client.pause, client::Pause::Closed, "line {line}"),
            "failed" => {
                let failure = client.failed.take().expect("a failure");
                let shown = show_failure(&failure);
                assert_eq!(shown, rest, "line {line}");
            }
            "outline" => {
                let lines: Vec<_> = client
                    .output
                    .outline
                    .lines()
                    .map(|shown| shown.text)
                    .collect();
                assert!(lines.contains(&rest), "line {line}: not in {lines:#?}");
            }
            "hidden" => {
                let shown = client
                    .output
                    .outline
                    .lines()
                    .any(|shown| shown.text.contains(rest));
                assert!(!shown, "line {line}: in the outline");
            }
            _ => panic!("line {line}: {what}"),
        }
    }
}

/// `MAIL FROM:<…> … RCPT TO:<…> …`, as the server's parser reads it.
fn parse_envelope(text: &str) -> Envelope {
    let offered = Extensions::COMMON | Extensions::MT_PRIORITY;
    let mut parts = text.split(" RCPT ");
    let mail = parts.next().expect("MAIL");
    let Ok(Command::Mail(reverse_path, parameters)) = Command::parse(mail.as_bytes(), offered)
    else {
        panic!("{mail}");
    };
    let recipients =
        parts.map(
            |rcpt| match Command::parse(format!("RCPT {rcpt}").as_bytes(), offered) {
                Ok(Command::Rcpt(path, parameters)) => Recipient { path, parameters },
                other => panic!("{rcpt}: {other:?}"),
            },
        );
    Envelope {
        reverse_path,
        parameters,
        recipients: recipients.collect(),
    }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered(reply) => format!("delivered {reply}"),
        Outcome::Deferred(failure) => format!("deferred {}", show_failure(failure)),
        Outcome::Failed(failure) => format!("failed {}", show_failure(failure)),
        Outcome::Unknown(failure) => format!("unknown {}", show_failure(failure)),
        Outcome::NextTransaction(reply) => format!("next-transaction {reply}"),
    }
}

fn show_failure(failure: &Failure) -> String {
    let whose = if failure.is_from_remote() {
        "theirs"
    } else {
        "ours"
    };
    format!("{whose} at {}: {}", failure.phase.name(), failure.reply)
}

/// What a side has said and was not yet expected.
#[derive(Default)]
struct Said(Vec<u8>);

impl Said {
    fn extend(&mut self, bytes: Vec<u8>) {
        self.0.extend(bytes);
    }

    fn expect(&mut self, line: usize, expected: &str) {
        let Some(end) = self.0.windows(2).position(|pair| pair == b"\r\n") else {
            panic!(
                "line {line}: expected {expected:?}, heard {:?}",
                self.0.escape_ascii().to_string()
            );
        };
        let heard: Vec<u8> = self.0.drain(..end + 2).collect();
        assert_eq!(
            heard[..end].escape_ascii().to_string(),
            bytes(expected, false).escape_ascii().to_string(),
            "line {line}"
        );
    }

    fn expect_nothing(&self, line: usize) {
        assert!(
            self.0.is_empty(),
            "line {line}: not expected: {}",
            self.0.escape_ascii()
        );
    }
}

/// Text with `\r`, `\n`, `\\`, `\xNN` and `\*N*text*` (text, N times).
fn bytes(text: &str, crlf: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        rest = match escape.chars().next() {
            Some('x') => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).expect("hexadecimal"));
                &escape[3..]
            }
            Some('*') => {
                let mut parts = escape[1..].splitn(3, '*');
                let times = parts.next().and_then(|n| n.parse().ok()).expect("a number");
                let text = parts.next().expect("text");
                bytes.extend(self::bytes(text, false).repeat(times));
                parts.next().expect("a closing star")
            }
            Some(char) => {
                bytes.push(match char {
                    'r' => b'\r',
                    'n' => b'\n',
                    '\\' => b'\\',
                    other => panic!("\\{other}"),
                });
                &escape[1..]
            }
            None => panic!("a backslash at the end"),
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    if crlf {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
