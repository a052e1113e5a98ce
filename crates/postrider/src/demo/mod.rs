//! The protocols explained by running them: two servers, a DNS, and one message on its way.
//!
//! `world` is what runs, `performance` what happens, at its own speed, `story` what is
//! drawn of it, `submit` and `fetch` the two mail programs, `message` what is sent,
//! `compare` whether it arrived. Nothing is drawn that was not said: what the mail programs say
//! and hear is told by them, what passes between the servers by the queues' journeys, what DNS is
//! asked by the name server.

mod compare;
mod fetch;
mod lanes;
mod message;
mod performance;
mod stage;
mod story;
mod submit;
mod talk;
mod verdict;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

use self::lanes::all as all_lanes;
use self::stage::Stage;
use self::story::Story;
use self::world::World;
use crate::cli::DemoArgs;
use crate::diagram::{Canvas, Tone};
use crate::term::{self, Style};

/// A run that takes longer than this does not work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo. The exit status is 0 only if everything held.
///
/// # Errors
/// Something could not be started or drawn, or the message did not arrive.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    tokio::time::timeout(PATIENCE, play(args))
        .await
        .context("the demo takes too long")?
}

async fn play(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut style = Style::of_stdout();
    style.unicode &= !args.ascii;
    if let Some(width) = args.width {
        style.width = usize::from(width);
    }
    let folder = Folder::new()?;
    let (tell, mut lookups) = mpsc::unbounded_channel();
    let (world, people) = World::start(&folder.0, tell).await?;
    let pop3 = world.alice.pop3.map(|address| address.to_string());
    let lanes = all_lanes(
        &world.bob.smtp.to_string(),
        &world.dns.address().to_string(),
        &world.alice.smtp.to_string(),
        &pop3.unwrap_or_default(),
    );
    let mut stage = Stage::new(Canvas::new(style, lanes), term::is_watched() && !args.fast);
    stage
        .say(Tone::Heading, "One message, from Bob to Alice")
        .await?;
    stage
        .say(
            Tone::Words,
            "Two complete mail servers, a name server and two mail programs run in this process, \
             each on ports of its own, and speak over real sockets. Every line below was said \
             just now. Times are milliseconds since Bob's program connected.",
        )
        .await?;
    stage.say(Tone::Words, "").await?;
    stage.map().await?;

    let message_id = format!("{}@bob.test", postrider_protocol::QueueId::new());
    let content = message::build("bob@bob.test", "alice@alice.test", &date(), &message_id);
    let seen = Story::new(&mut stage)
        .tell(&world, people, content.clone(), message_id, &mut lookups)
        .await?;
    let held = verdict::pronounce(&mut stage, &world, &content, &seen).await?;
    world.stop().await?;
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Now, as RFC 5322 section 3.3 writes it.
fn date() -> String {
    jiff::Timestamp::now()
        .strftime("%a, %d %b %Y %H:%M:%S +0000")
        .to_string()
}

/// A folder that is gone when the demo has ended.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let name = format!("postrider-demo-{}", postrider_protocol::QueueId::new());
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The system clears its folder for temporary files; nothing else depends on it.
        std::fs::remove_dir_all(&self.0).ok();
    }
}
