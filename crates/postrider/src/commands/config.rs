//! `postrider config …`: checks the configuration, explains it, shows what is in force.

use std::process::ExitCode;

use postrider_config::reference::{markdown, sample};

use super::{OK, nothing};
use crate::cli::ConfigCommand;
use crate::out;
use crate::ports;
use crate::settings::Settings;
use crate::source::Source;

/// Carries out a command on the configuration.
///
/// # Errors
/// Standard output is closed.
pub fn run(source: &Source, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check => check(source),
        ConfigCommand::Reference { markdown } => reference(*markdown),
        ConfigCommand::Dump => dump(source),
    }
}

fn check(source: &Source) -> anyhow::Result<ExitCode> {
    let settings = match source.read() {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems.problems() {
                anstream::eprintln!("{problem}");
            }
            return Ok(nothing());
        }
    };
    let name = source.path().map_or_else(
        || "the configuration".to_owned(),
        |path| path.display().to_string(),
    );
    out::line(format_args!("{name} is valid."))?;
    for wanted in ports::wanted(&settings) {
        out::line(format_args!("  {} for {}", wanted.address, wanted.purpose))?;
    }
    Ok(OK)
}

fn reference(as_markdown: bool) -> anyhow::Result<ExitCode> {
    let sections = Settings::reference();
    let text = if as_markdown {
        markdown(&sections)
    } else {
        sample(&sections)
    };
    out::line(text.trim_end())?;
    Ok(OK)
}

fn dump(source: &Source) -> anyhow::Result<ExitCode> {
    out::line(source.read()?.dump()?.trim_end())?;
    Ok(OK)
}
