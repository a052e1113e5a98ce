//! What is sent, and what became of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_tests::source::{self, Load};

use super::client::{Client, Heard};

/// Whose mailbox every fourth message is for; the rest goes to the sink.
pub(crate) const LOCAL: &str = "alice@here.test";
/// Before a message is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// What the clients have heard, all together.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    heard: Mutex<Told>,
}

#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Numbers with a 250.
    pub(crate) accepted: BTreeSet<u64>,
    /// Times that a client was put off, by a reply that says so.
    pub(crate) put_off: u64,
    /// Times that a server was not there.
    pub(crate) away: u64,
    /// What should never happen, in words.
    pub(crate) broken: Vec<String>,
}

impl Ledger {
    /// The number of a new message.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many messages were begun.
    pub(crate) fn numbers(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was answered to a part of a message. True if it may go on. An answer is always
    /// due: a session that ends with none, not even a 421, was dropped.
    pub(crate) fn goes_on(&self, what: &str, heard: &Heard, wanted: &str) -> bool {
        if heard.is(wanted) {
            return true;
        }
        if heard.is("4") {
            self.told().put_off += 1;
        } else {
            self.complain(format!("{what}: {heard:?}"));
        }
        false
    }

    /// Notes the answer to the final dot: true for a 250. A 421 is none: it is what a session hears
    /// that is broken off.
    pub(crate) fn final_reply(&self, number: u64, heard: &Heard) -> bool {
        if heard.is("421") {
            self.complain(format!("message {number} was cut off: {heard:?}"));
            return false;
        }
        let accepted = self.goes_on("the final dot", heard, "250");
        if accepted {
            self.accepted(number);
        }
        accepted
    }

    pub(crate) fn accepted(&self, number: u64) {
        self.told().accepted.insert(number);
    }

    pub(crate) fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.complain(format!("{what} did not end, or go on, as it should"));
        }
    }

    /// Notes what should not have happened.
    pub(crate) fn complain(&self, what: String) {
        self.told().broken.push(what);
    }
}

/// MAIL, RCPT and DATA of a message, as one group (RFC 2920).
pub(crate) fn group(number: u64) -> Vec<u8> {
    let recipient = recipient(number);
    format!("MAIL FROM:<source@load.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n").into_bytes()
}

fn recipient(number: u64) -> String {
    match number % 4 {
        0 => LOCAL.to_owned(),
        domain => format!("sink@d{domain}.test"),
    }
}

/// Its content with the final dot.
pub(crate) fn content(number: u64, size: usize) -> Vec<u8> {
    let load = Load {
        size,
        recipient: recipient(number),
        ..Load::default()
    };
    source::stuffed(&source::message(&load, number))
}

/// Sends a message until it is accepted, to one server or another, as who knows several addresses
/// of a name does.
pub(crate) async fn send(
    ledger: &Ledger,
    servers: &[SocketAddr],
    client: &mut Option<Client>,
    number: u64,
) {
    let mut at = usize::try_from(number).unwrap_or(0);
    while !attempt(ledger, servers[at % servers.len()], client, number).await {
        *client = None;
        at += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn attempt(
    ledger: &Ledger,
    server: SocketAddr,
    client: &mut Option<Client>,
    number: u64,
) -> bool {
    if client.is_none() {
        match Client::connect(server).await {
            Ok(Some(connected)) => *client = Some(connected),
            Ok(None) => {
                ledger.told().away += 1;
                return false;
            }
            Err(error) => {
                ledger.complain(format!("{error:#}"));
                return false;
            }
        }
    }
    let Some(client) = client else { return false };
    client.send(&group(number)).await;
    for (what, wanted) in [("MAIL", "250"), ("RCPT", "250"), ("DATA", "354")] {
        let heard = client.hear().await;
        if !ledger.goes_on(what, &heard, wanted) {
            return false;
        }
    }
    client.send(&content(number, 2_048)).await;
    ledger.final_reply(number, &client.hear().await)
}

/// A client that sends one message after another until it is told to stop.
pub(crate) async fn source(
    ledger: Arc<Ledger>,
    servers: Vec<SocketAddr>,
    mut stop: tokio::sync::watch::Receiver<bool>,
    pause: Duration,
) {
    let mut client = None;
    while !*stop.borrow_and_update() {
        send(&ledger, &servers, &mut client, ledger.number()).await;
        tokio::time::sleep(pause).await;
    }
    if let Some(client) = client {
        client.quit().await;
    }
}
