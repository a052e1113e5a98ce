//! Try-out mode: a whole mail system on loopback for somebody who has just built it.

mod accounts;
mod printout;

use anyhow::Context;

use crate::compose::System;
use crate::out;
use crate::settings::Settings;
use crate::term::Style;

/// The one domain whose mailboxes are here. `.test` is nobody's (RFC 6761 section 6.2).
pub const DOMAIN: &str = "postrider.test";

/// The configuration of try-out mode, in the words of a config file.
pub const CONFIG: &str = r#"
[server]
hostname = "mail.postrider.test"
domains = ["postrider.test"]
data_dir = "postrider-data"

[telemetry]
listen = ["127.0.0.1:8025"]
log = "warn"

[edge]
listeners = [
    { address = "127.0.0.1:2525", role = "mx" },
    { address = "127.0.0.1:2587", role = "submission" },
    { address = "127.0.0.1:2465", role = "submissions" },
]

[mailbox]
postmaster = "alice@postrider.test"

[mailbox.pop3]
listeners = [
    { address = "127.0.0.1:2110", role = "pop3" },
    { address = "127.0.0.1:2995", role = "pop3s" },
]

# Mail to other domains stays here, and nobody is asked where it would go.
[delivery]
resolvers = ["127.0.0.1:53"]

[[delivery.routes]]
recipient = "*"
via = "discard"
"#;

/// Makes the accounts and says what runs where, once everything is bound.
///
/// # Errors
/// The data folder cannot be written to.
pub async fn welcome(settings: &Settings, system: &System) -> anyhow::Result<()> {
    let people = accounts::ensure(settings).context("making the accounts of alice and bob")?;
    let known = accounts::check(people, &*system.directory()).await;
    let facts = printout::Facts::gather(settings, system, known);
    out::lines(&printout::lines(&facts, Style::of_stdout()))?;
    Ok(())
}
