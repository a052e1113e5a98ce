//! Pages that are made from the code and must not fall behind it. To take a change over, run the
//! tests with `UPDATE_DOCS=1` and look at the difference.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::path::PathBuf;

use clap::{Command, CommandFactory};
use postrider::cli::Cli;

const HEAD: &str = "\
# The command line

One binary does it all; this page is its own help, made by a test from the code.

Exit statuses: **0** it was done; **1** what was asked for is not there, or the answer is no
(no such message, not healthy, an invalid configuration, a demo in which something did not hold);
**2** it could not be done, or the command line is wrong.

Output for people is aligned, and coloured on a terminal only (`NO_COLOR` is obeyed). Programs ask
for `--json`, where fields are only ever added and times are Unix microseconds.

Every command reads the configuration that the server reads: the file of `--config` (or
`POSTRIDER_CONFIG`) with the environment's `POSTRIDER__SECTION__KEY` laid over it.
";

fn describe(path: &str, command: &mut Command, page: &mut String) {
    let level = "#".repeat(path.split(' ').count().min(3) + 1);
    page.push_str(&format!("\n{level} `{path}`\n\n```text\n"));
    let help = command.render_long_help().to_string();
    for line in help.trim_end().lines() {
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page.push_str("```\n");
    for inner in command.get_subcommands_mut() {
        if inner.get_name() != "help" {
            let path = format!("{path} {}", inner.get_name());
            describe(&path, inner, page);
        }
    }
}

#[test]
fn the_page_of_the_command_line_is_up_to_date() {
    let mut command = Cli::command().term_width(96).version("");
    command.build();
    let mut page = HEAD.to_owned();
    describe("postrider", &mut command, &mut page);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/command-line.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(known, page, "run this test with UPDATE_DOCS=1");
}
