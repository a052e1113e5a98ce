//! The pages that are written from the code.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::shell::{self, cargo, root};

/// Whether to write.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only say whether a page is out of date.
    #[arg(long)]
    check: bool,
}

/// A page, and the programs that print it.
struct Page {
    path: &'static str,
    head: &'static str,
    parts: &'static [Part],
}

/// A part of a page.
enum Part {
    /// What a program prints: its file below the folder where cargo builds, and its arguments.
    Program(&'static str, &'static [&'static str]),
    /// The help of a program, under its name.
    Help(&'static str),
}

const PAGES: &[Page] = &[
    Page {
        path: "docs/config.md",
        head: "<!-- Written by `cargo xtask docs` from the doc comments of the config structs. -->\n\
               # Configuration\n\n\
               One TOML file, one section a service; every key has a default. `postrider config check`\n\
               tells every mistake at once, with its line and the nearest known name.\n\
               Every value can be set in the environment too: `POSTRIDER__EDGE__LIMITS__RECIPIENTS=500`\n\
               sets `recipients` in `[edge.limits]`. Lists are separated by commas or written as TOML\n\
               (`[\"a.example\"]`), elements are named by their number from 0\n\
               (`POSTRIDER__EDGE__LISTENERS__0__ADDRESS`), tables are written as inline tables of TOML.\n\n",
        parts: &[Part::Program(
            "postrider",
            &["config", "reference", "--markdown"],
        )],
    },
    Page {
        path: "docs/postrider.toml",
        head: "# Every key with its meaning and its default. Written by `cargo xtask docs`.\n\n",
        parts: &[Part::Program("postrider", &["config", "reference"])],
    },
    Page {
        path: "docs/metrics.md",
        head: "<!-- Written by `cargo xtask docs` from the METRICS tables of the crates. -->\n\
               # Metrics\n\n\
               Served at `/metrics` of `[telemetry] listen`. Names follow OpenTelemetry's conventions;\n\
               on the page they follow Prometheus'. Histograms have `_bucket`, `_sum` and `_count`.\n\n",
        parts: &[Part::Program("examples/metrics", &[])],
    },
    Page {
        path: "docs/command-line.md",
        head: "<!-- Written by `cargo xtask docs` from the programs' own help. -->\n\
               # The command line\n\n\
               `postrider` does it all; `postrider-edge`, `-queue`, `-delivery` and `-mailbox` are its services as\n\
               processes of their own.\n\n\
               Exit statuses: **0** it was done; **1** what was asked for is not there, or the answer is no\n\
               (no such message, not healthy, an invalid configuration, a demo in which something did not hold);\n\
               **2** it could not be done, or the command line is wrong.\n\n\
               Output for people is aligned, and coloured on a terminal only (`NO_COLOR` is obeyed). Programs ask\n\
               for `--json`, where fields are only ever added and times are Unix microseconds.\n\n\
               Every program and command reads the same configuration: the file of `--config` (or\n\
               `POSTRIDER_CONFIG`) with the environment's `POSTRIDER__SECTION__KEY` laid over it. Whatever serves\n\
               stops gently at SIGTERM or SIGINT and at once at a second one; at SIGHUP, or when its file has\n\
               changed, it takes over what it can, and logs what waits for the next start.\n\n",
        parts: &[
            Part::Program("examples/command_line", &[]),
            Part::Help("postrider-edge"),
            Part::Help("postrider-queue"),
            Part::Help("postrider-delivery"),
            Part::Help("postrider-mailbox"),
        ],
    },
];

/// The verb.
///
/// # Errors
/// A program does not build or run; with `--check`, a page is out of date.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.check {
        return check();
    }
    build()?;
    for page in PAGES {
        let path = page.path();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, page.text()?).with_context(|| page.path.to_owned())?;
        println!("{}", page.path);
    }
    Ok(())
}

/// Whether every page says what the code says.
///
/// # Errors
/// One does not.
pub(crate) fn check() -> anyhow::Result<()> {
    build()?;
    let mut stale = Vec::new();
    for page in PAGES {
        let written = fs::read_to_string(page.path()).unwrap_or_default();
        if written != page.text()? {
            stale.push(page.path);
        }
    }
    if !stale.is_empty() {
        bail!("out of date: {}; run `cargo xtask docs`", stale.join(", "));
    }
    Ok(())
}

impl Page {
    fn path(&self) -> PathBuf {
        root().join(self.path)
    }

    fn text(&self) -> anyhow::Result<String> {
        let parts: Vec<String> = self
            .parts
            .iter()
            .map(Part::text)
            .collect::<anyhow::Result<_>>()?;
        Ok(format!("{}{}\n", self.head, parts.join("\n\n")))
    }
}

impl Part {
    fn text(&self) -> anyhow::Result<String> {
        let program = |file: &str| shell::command(shell::target().join("debug").join(file));
        match self {
            Self::Program(file, arguments) => {
                let text = shell::output(program(file).args(*arguments))?;
                Ok(text.trim().to_owned())
            }
            Self::Help(name) => {
                // As wide as it is where there is no terminal.
                let mut program = program(name);
                program.arg("--help").env_remove("COLUMNS");
                let text = shell::output(&mut program)?;
                let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
                Ok(format!("## `{name}`\n\n```text\n{}\n```", lines.join("\n")))
            }
        }
    }
}

/// Builds the programs that print the pages, with the features that everything else is built with.
fn build() -> anyhow::Result<()> {
    let build = ["build", "--workspace", "--bins", "--quiet"];
    shell::run(cargo(&build).args(["--example=metrics", "--example=command_line"]))
}
