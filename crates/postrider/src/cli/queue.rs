//! `postrider queue …`
// The comments are what `--help` prints, where brackets name a section of the configuration.
#![allow(rustdoc::broken_intra_doc_links)]

use clap::{Args, Subcommand};
use postrider_config::values::Period;

use super::Server;

/// What to do with the queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List deliveries: what waits, where it goes, what was said last.
    #[command(visible_alias = "ls")]
    List {
        /// Which server.
        #[command(flatten)]
        server: Server,
        /// Which deliveries.
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many deliveries; 0 stands for all.
        #[arg(long, default_value_t = 100)]
        limit: u64,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one message with its deliveries.
    Show {
        /// Which server.
        #[command(flatten)]
        server: Server,
        /// The queue id, as in the 250 reply, Received and the logs.
        queue_id: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Make deliveries due now, whatever the schedule says.
    Retry(ActArgs),
    /// Stop attempting deliveries until they are released.
    ///
    /// Touches what is queued now; to stop what is still to come too, see `postrider queue suspend`.
    Hold(HoldArgs),
    /// Let held deliveries go on.
    Release(ActArgs),
    /// End deliveries without telling the sender.
    Remove(ActArgs),
    /// End deliveries as failed, with a DSN to the sender.
    Bounce(ActArgs),
    /// Send deliveries elsewhere, from their next attempt on.
    Reroute(RerouteArgs),
    /// List what operators did and do to deliveries, the newest first.
    ///
    /// An act on many deliveries goes on by itself, also when this command is broken off and when
    /// the server restarts. The latest 1,000 are remembered, for 30 days. A server works on 32 at
    /// once, and an act may name 500 queue ids.
    Acts {
        /// Which server.
        #[command(flatten)]
        server: Server,
        /// At most so many acts.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Take an act back: release what a hold holds, end a suspension, stop what still runs.
    ///
    /// A hold is not undone if more than 800 of its deliveries were held before: which of them to
    /// release, nobody knows.
    Undo {
        /// Which server.
        #[command(flatten)]
        server: Server,
        /// The act's id, as `postrider queue acts` lists it.
        act_id: String,
        /// Who undoes it, and why.
        #[command(flatten)]
        by: ByArgs,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Stop attempts at a destination, or at a sender's or a tenant's mail, now and in future.
    ///
    /// What is given must match altogether. It costs the same whatever is queued, holds for all
    /// servers of a cluster at once, and lasts until resumed, or until its end. There may be 1,000.
    Suspend(SuspendArgs),
    /// End suspensions.
    Resume {
        /// Which server.
        #[command(flatten)]
        server: Server,
        /// Their ids, as `postrider queue suspensions` lists them.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Who resumes, and why.
        #[command(flatten)]
        by: ByArgs,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// List what is suspended now.
    Suspensions {
        /// Which server.
        #[command(flatten)]
        server: Server,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Counts: recipients by outcome, deliveries by state, the largest destinations.
    Stats {
        /// Which server.
        #[command(flatten)]
        server: Server,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
}

impl QueueCommand {
    /// Which server it is for.
    #[must_use]
    pub fn server(&self) -> &Server {
        match self {
            Self::List { server, .. }
            | Self::Show { server, .. }
            | Self::Acts { server, .. }
            | Self::Undo { server, .. }
            | Self::Resume { server, .. }
            | Self::Suspensions { server, .. }
            | Self::Stats { server, .. } => server,
            Self::Retry(args) | Self::Release(args) | Self::Remove(args) | Self::Bounce(args) => {
                &args.server
            }
            Self::Hold(args) => &args.act.server,
            Self::Reroute(args) => &args.act.server,
            Self::Suspend(args) => &args.server,
        }
    }
}

/// Which deliveries. What is given must match altogether.
#[derive(Debug, Args, Default)]
pub struct FilterArgs {
    /// Queue ids; several may match.
    #[arg(value_name = "QUEUE_ID")]
    pub queue_ids: Vec<String>,
    /// The destination, e.g. "smtp:example.org"; a bare domain stands for SMTP to it. A star
    /// stands for more: "*.example.org" (the domains below it), "mailbox:*", "*".
    #[arg(long, value_name = "DESTINATION")]
    pub destination: Option<String>,
    /// The sender (reverse-path), without angle brackets; "@example.org" for all of a domain,
    /// "<>" for DSNs.
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// A recipient; "@example.org" for all of a domain.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// The tenant whose mail it is.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only held ones.
    #[arg(long)]
    pub held: bool,
    /// Only those that a suspension stops.
    #[arg(long)]
    pub suspended: bool,
    /// Only those with an attempt whose outcome is unknown.
    #[arg(long)]
    pub unknown: bool,
    /// Accepted longer ago than this, e.g. "2h".
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<Period>,
    /// Accepted within this time, e.g. "30m".
    #[arg(long, value_name = "TIME")]
    pub newer_than: Option<Period>,
    /// With at least so many attempts.
    #[arg(long, value_name = "NUMBER")]
    pub attempts: Option<u32>,
    /// With this text in what was said last, e.g. "mailbox full".
    #[arg(long, value_name = "TEXT")]
    pub reply: Option<String>,
}

/// Who acts, and why.
#[derive(Debug, Clone, Args)]
pub struct ByArgs {
    /// Why; it is kept with the act and in the journeys.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Who; it is kept with the act and in the journeys.
    #[arg(long, env = "USER", default_value = "operator", hide_env_values = true)]
    pub operator: String,
}

/// An act on deliveries.
#[derive(Debug, Args)]
pub struct ActArgs {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Which deliveries.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Act on everything in the queue. Needed where no filter is given.
    #[arg(long)]
    pub all: bool,
    /// Only say what would be touched.
    #[arg(long, short = 'n')]
    pub preview: bool,
    /// Do not wait until an act on many deliveries is done.
    #[arg(long)]
    pub background: bool,
    /// Who acts, and why.
    #[command(flatten)]
    pub by: ByArgs,
    /// As one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// When something ends by itself.
#[derive(Debug, Clone, Args)]
pub struct EndArgs {
    /// When it ends by itself, in UTC: "2026-11-25 10:30" or "2026-11-25T10:30:00Z".
    #[arg(long, value_name = "TIME", conflicts_with = "for_time")]
    pub until: Option<String>,
    /// For how long, e.g. "90m" or "2days".
    #[arg(long = "for", value_name = "TIME", id = "for_time")]
    pub for_time: Option<Period>,
}

/// A hold.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// Which deliveries, who, and why.
    #[command(flatten)]
    pub act: ActArgs,
    /// When it ends by itself.
    #[command(flatten)]
    pub end: EndArgs,
}

/// Another destination for deliveries.
#[derive(Debug, Args)]
pub struct RerouteArgs {
    /// Where they go from now on, e.g. "smtp:example.org"; a bare domain stands for SMTP to it.
    #[arg(long, value_name = "DESTINATION")]
    pub to: String,
    /// Which deliveries, who, and why.
    #[command(flatten)]
    pub act: ActArgs,
}

/// What is to be suspended.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["destination", "sender", "tenant"]))]
pub struct SuspendArgs {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// The destination, e.g. "smtp:example.org"; a bare domain stands for SMTP to it.
    #[arg(long, value_name = "DESTINATION")]
    pub destination: Option<String>,
    /// The sender (reverse-path); "@example.org" for all of a domain, "<>" for DSNs.
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// The tenant whose mail it is.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// When it ends by itself.
    #[command(flatten)]
    pub end: EndArgs,
    /// Only say what it would stop now.
    #[arg(long, short = 'n')]
    pub preview: bool,
    /// Who suspends, and why.
    #[command(flatten)]
    pub by: ByArgs,
    /// As one JSON object.
    #[arg(long)]
    pub json: bool,
}
