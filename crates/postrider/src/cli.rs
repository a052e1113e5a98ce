//! The command line: what there is to say, and how it is explained.
// The comments are what `--help` prints, where brackets name a section of the configuration.
#![allow(rustdoc::broken_intra_doc_links)]

mod queue;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use postrider_process::ConfigFile;

pub use self::queue::{
    ActArgs, ByArgs, EndArgs, FilterArgs, HoldArgs, QueueCommand, RerouteArgs, SuspendArgs,
};

/// Postrider, a mail system: receives, queues, delivers and keeps mail.
///
/// Without a command it starts in try-out mode: everything in one process, on loopback only,
/// with two accounts, a certificate of its own and data in ./postrider-data. Nothing needs to
/// be configured, and no mail leaves the machine.
#[derive(Debug, Parser)]
#[command(
    name = "postrider",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Where the configuration is.
    #[command(flatten)]
    pub file: ConfigFile,

    /// What to do; try-out mode if left out.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all services in one process, as the config file says.
    ///
    /// SIGTERM or SIGINT stops gently: no new connections, what is in hand is finished, leases
    /// are given back. A second signal stops at once. SIGHUP, or a changed config file, reloads
    /// what can be reloaded, and says what cannot.
    Serve,
    /// Show the protocols at work: two mail servers, a DNS, and one message on its way.
    ///
    /// Starts Bob's server, Alice's server and a DNS on free ports of loopback, sends one
    /// message from Bob to Alice, draws every line of the dialogues as it happens, fetches the
    /// message as Alice and compares it byte for byte. Exits with 0 only if all of it held.
    Demo(DemoArgs),
    /// Check the configuration, print its reference, or print what is in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look into the queue of a running server, and act on it.
    #[command(subcommand)]
    Queue(Box<QueueCommand>),
    /// Check the queue's files, or move the queue to another store, while no server uses it.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Draw everything that happened to a message as a sequence diagram.
    ///
    /// A message is named by its queue id or its Message-ID. With --sender or --recipient, what is
    /// found is listed, the newest first, and drawn if it is a single message. Exits with 1 if no
    /// such message is known.
    Journey(JourneyArgs),
    /// Manage the accounts of the mailbox service.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Make the certificates with which services know each other (mutual TLS).
    ///
    /// Writes an authority, a certificate that is valid for all the names, and its key, for
    /// [services] ca, certificate and key. The authority's own key is not kept: to add a name,
    /// make them anew in an empty folder. What is there stays.
    Certificates(CertificatesArgs),
    /// Ask a running server whether it is healthy; exits with 0 if it is. For container checks.
    Health(HealthArgs),
}

/// How to draw the demo.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Draw as fast as it happens, without slowing down for those who watch.
    #[arg(long)]
    pub fast: bool,
    /// Draw with ASCII characters only.
    #[arg(long)]
    pub ascii: bool,
    /// Columns to draw in, instead of the terminal's.
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(60..=400))]
    pub width: Option<u16>,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Load it as `serve` would; report every problem, and exit with 1 if there is one.
    Check,
    /// Print a config file with every key, its meaning and its default.
    Reference {
        /// As Markdown, for the documentation.
        #[arg(long)]
        markdown: bool,
    },
    /// Print what is in force: the file with the environment and the defaults. Secrets are masked.
    Dump,
}

/// Where a running server answers operators.
#[derive(Debug, Args)]
pub struct Server {
    /// Where the server answers, e.g. "127.0.0.1:8027". By default `[services] queue` of the
    /// configuration, which fits the try-out too.
    #[arg(long, value_name = "ADDRESS", env = "POSTRIDER_SERVER")]
    pub server: Option<String>,
}

/// What to do with the store, beside a server.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read every byte of an embedded store and its stored bodies, and say what is damaged.
    ///
    /// Changes nothing, and refuses while a server uses the store. Exits with 0 if nothing is
    /// damaged or missing (what a crash leaves behind and the server mends by itself is only
    /// noted), with 1 if something is, with 2 if the store cannot be read at all.
    Check {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write the whole queue into a file, to be taken into another store.
    ///
    /// Everything queued, with stored bodies, journeys, holds, attempts, suspensions and acts. Stop
    /// the services first, and do not start the old queue again afterwards: its mail would go
    /// out twice. Exits with 1 if something could not be read and is not in the file.
    Export {
        /// The file; it must not be there yet.
        file: PathBuf,
        /// Export even if deliveries are being attempted now.
        #[arg(long)]
        force: bool,
    },
    /// Take an exported queue into the configured store.
    ///
    /// The file is read to its end first, and nothing is changed if it is damaged or cut short. What
    /// the store has already is passed over, so that an import that broke off is just run again.
    Import {
        /// The file.
        file: PathBuf,
    },
}

/// Which journey, and how to show it.
#[derive(Debug, Args)]
pub struct JourneyArgs {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// A queue id, or a Message-ID with or without angle brackets.
    #[arg(required_unless_present_any = ["sender", "recipient"])]
    pub query: Option<String>,
    /// Look for messages from this address (reverse-path); "<>" for DSNs.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["query", "recipient", "follow"])]
    pub sender: Option<String>,
    /// Look for messages to this address.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["query", "follow"])]
    pub recipient: Option<String>,
    /// At most so many messages of a sender or recipient.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Go on drawing what happens, until the message has ended.
    #[arg(long, short)]
    pub follow: bool,
    /// As JSON: one object a journey; with --follow, one an event.
    #[arg(long)]
    pub json: bool,
    /// Draw with ASCII characters only.
    #[arg(long)]
    pub ascii: bool,
}

/// What to do with accounts.
///
/// Passwords are asked for without echo, or read as one line from standard input if that is
/// no terminal; never from the command line, where others could read them.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Add an account.
    Add {
        /// Its address, e.g. "alice@example.org". The domain must be one of [server] domains.
        address: String,
        /// Make a strong password up and print it once.
        #[arg(long)]
        generate: bool,
    },
    /// List the accounts.
    #[command(visible_alias = "ls")]
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Remove an account. Its mail stays on disk.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its address.
        address: String,
    },
    /// Give an account a new password.
    Passwd {
        /// Its address.
        address: String,
        /// Make a strong password up and print it once.
        #[arg(long)]
        generate: bool,
    },
}

/// Which server's health.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Where health is served, e.g. "http://127.0.0.1:8025". By default what [telemetry] says.
    #[arg(value_name = "ADDRESS")]
    pub place: Option<String>,
}

/// Which certificates.
#[derive(Debug, Args)]
pub struct CertificatesArgs {
    /// The folder to write them to.
    pub folder: PathBuf,
    /// A service's host name, as the others reach it; may be given many times.
    #[arg(long = "name", value_name = "HOST", required = true)]
    pub names: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_the_try_out() {
        assert!(Cli::parse_from(["postrider"]).command.is_none());
    }

    #[test]
    fn no_password_fits_on_the_command_line() {
        assert!(
            Cli::try_parse_from(["postrider", "account", "add", "a@b.test", "secret"]).is_err()
        );
        let arguments = ["postrider", "account", "add", "a@b.test", "--password=x"];
        assert!(Cli::try_parse_from(arguments).is_err());
    }
}
