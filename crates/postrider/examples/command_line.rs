//! Prints what `postrider` can do, command by command, for `docs/command-line.md` (see `cargo xtask
//! docs`).

use clap::{Command, CommandFactory as _};
use postrider::cli::Cli;

fn main() {
    let mut command = Cli::command().term_width(96).version("");
    command.build();
    describe("postrider", &mut command);
}

fn describe(path: &str, command: &mut Command) {
    let level = "#".repeat(path.split(' ').count().min(3) + 1);
    println!("{level} `{path}`\n\n```text");
    let help = command.render_long_help().to_string();
    for line in help.trim_end().lines() {
        println!("{}", line.trim_end());
    }
    println!("```\n");
    for inner in command.get_subcommands_mut() {
        if inner.get_name() != "help" {
            let path = format!("{path} {}", inner.get_name());
            describe(&path, inner);
        }
    }
}
