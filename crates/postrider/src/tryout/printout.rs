//! What try-out mode prints: where what runs, and three commands to paste.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use postrider_edge::Role;
use postrider_mailbox::Pop3Role;
use rand::seq::IndexedRandom;

use super::DOMAIN;
use super::accounts::Person;
use crate::compose::System;
use crate::diagram::Tone;
use crate::settings::Settings;
use crate::term::Style;

/// What is to be told.
pub(super) struct Facts {
    pub(super) mx: Option<SocketAddr>,
    pub(super) submission: Option<SocketAddr>,
    pub(super) submissions: Option<SocketAddr>,
    pub(super) pop3: Option<SocketAddr>,
    pub(super) pop3s: Option<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) operators: SocketAddr,
    pub(super) operators_are_default: bool,
    pub(super) people: Vec<Person>,
    pub(super) certificate: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) program: PathBuf,
    pub(super) message_id: String,
}

impl Facts {
    pub(super) fn gather(settings: &Settings, system: &System, people: Vec<Person>) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let operators = system.admin_address();
        Self {
            mx: system.smtp(Role::Mx),
            submission: system.smtp(Role::Submission),
            submissions: system.smtp(Role::Submissions),
            pop3: system.pop3(Pop3Role::Pop3),
            pop3s: system.pop3(Pop3Role::Pop3s),
            metrics: settings.telemetry.listen.first().copied(),
            operators,
            operators_are_default: operators == Settings::default().services.queue_listen,
            people,
            certificate: absolute(system.certificate().certificate_file()),
            data_dir: settings.server.data_dir.clone(),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("postrider")),
            message_id: format!("hello-{}@{DOMAIN}", word()),
        }
    }

    fn password(&self, name: &str) -> &str {
        self.people
            .iter()
            .find(|person| person.address.starts_with(name))
            .and_then(|person| person.password.as_ref())
            .map_or("PASSWORD", |password| password.as_str())
    }
}

/// The whole printout.
pub(super) fn lines(facts: &Facts, style: Style) -> Vec<String> {
    let paint = |tone: Tone, text: &str| crate::diagram::paint(style.colour, tone, text);
    let mut lines = vec![
        String::new(),
        format!(
            "{} runs in try-out mode, on loopback only. Nothing leaves this machine: mail to",
            paint(Tone::Heading, "Postrider")
        ),
        format!("other domains than {DOMAIN} is accepted and discarded. Ctrl-C stops it."),
        String::new(),
    ];
    lines.extend(table(facts, &paint));
    lines.push(String::new());
    lines.push("Paste these into another terminal, one after the other:".to_owned());
    for (title, command) in [
        ("Bob writes to Alice.", send(facts)),
        ("Alice fetches her mail.", fetch(facts)),
        ("What happened on the way?", journey(facts)),
    ] {
        lines.push(String::new());
        lines.push(paint(Tone::Note, &format!("# {title}")));
        lines.extend(command);
    }
    lines.push(String::new());
    lines
}

fn table(facts: &Facts, paint: &dyn Fn(Tone, &str) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let name = paint(Tone::Note, &format!("{name:<12}"));
            lines.push(format!("  {name}{value}"));
        }
    };
    let pair = |first: Option<SocketAddr>, second: Option<SocketAddr>, how: [&str; 2]| {
        [first, second]
            .into_iter()
            .zip(how)
            .filter_map(|(address, how)| address.map(|address| format!("{address} {how}")))
            .collect::<Vec<_>>()
            .join(", ")
    };
    row("SMTP", pair(facts.mx, None, ["from other servers", ""]));
    row(
        "submission",
        pair(facts.submission, facts.submissions, ["(STARTTLS)", "(TLS)"]),
    );
    row("POP3", pair(facts.pop3, facts.pop3s, ["(STLS)", "(TLS)"]));
    row(
        "metrics",
        facts
            .metrics
            .map(|address| format!("http://{address}/metrics, /health/ready"))
            .unwrap_or_default(),
    );
    for person in &facts.people {
        let password = match &person.password {
            Some(password) => format!("password {}", **password),
            None => "password as you have set it".to_owned(),
        };
        row("account", format!("{}, {password}", person.address));
    }
    row("data", format!("{}", facts.data_dir.display()));
    lines
}

fn send(facts: &Facts) -> Vec<String> {
    let Some(address) = facts.submission.or(facts.submissions) else {
        return vec!["# No port for submission is configured.".to_owned()];
    };
    let scheme = if facts.submission.is_some() {
        "smtp"
    } else {
        "smtps"
    };
    vec![
        format!("printf '%s\\n' 'From: Bob <bob@{DOMAIN}>' 'To: Alice <alice@{DOMAIN}>' \\"),
        format!(
            "  'Subject: Hello' 'Message-ID: <{}>' '' 'It works.' |",
            facts.message_id
        ),
        "curl -sS --ssl-reqd --crlf --upload-file - \\".to_owned(),
        format!("  --cacert {} \\", quoted(&facts.certificate)),
        format!("  --user bob@{DOMAIN}:{} \\", facts.password("bob")),
        format!("  --mail-from bob@{DOMAIN} --mail-rcpt alice@{DOMAIN} \\"),
        format!("  {scheme}://{address}"),
    ]
}

fn fetch(facts: &Facts) -> Vec<String> {
    let (scheme, address) = match (facts.pop3s, facts.pop3) {
        (Some(address), _) => ("pop3s", address),
        (None, Some(address)) => ("pop3", address),
        (None, None) => return vec!["# No port for POP3 is configured.".to_owned()],
    };
    vec![
        "curl -sS --ssl-reqd \\".to_owned(),
        format!("  --cacert {} \\", quoted(&facts.certificate)),
        format!("  --user alice@{DOMAIN}:{} \\", facts.password("alice")),
        format!("  {scheme}://{address}/1"),
    ]
}

fn journey(facts: &Facts) -> Vec<String> {
    let server = if facts.operators_are_default {
        String::new()
    } else {
        format!(" --server {}", facts.operators)
    };
    vec![format!(
        "{} journey {}{server}",
        quoted(&facts.program),
        facts.message_id
    )]
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@:".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Five letters, so that each start has a message of its own to look for.
fn word() -> String {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstvwxyz23456789";
    let mut random = rand::rng();
    (0..5)
        .filter_map(|_| LETTERS.choose(&mut random))
        .map(|letter| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quoted(Path::new("/a/b-c.pem")), "/a/b-c.pem");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
