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

/// A page, and the program that prints it.
struct Page {
    path: &'static str,
    head: &'static str,
    program: &'static [&'static str],
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
        program: &["--bin=postrider", "--", "config", "reference", "--markdown"],
    },
    Page {
        path: "docs/postrider.toml",
        head: "# Every key with its meaning and its default. Written by `cargo xtask docs`.\n\n",
        program: &["--bin=postrider", "--", "config", "reference"],
    },
    Page {
        path: "docs/metrics.md",
        head: "<!-- Written by `cargo xtask docs` from the METRICS tables of the crates. -->\n\
               # Metrics\n\n\
               Served at `/metrics` of `[telemetry] listen`. Names follow OpenTelemetry's conventions;\n\
               on the page they follow Prometheus'. Histograms have `_bucket`, `_sum` and `_count`.\n\n",
        program: &["--example=metrics"],
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
        let run = ["run", "--quiet", "--package=postrider"];
        let body = shell::output(cargo(&run).args(self.program))?;
        Ok(format!("{}{}\n", self.head, body.trim()))
    }
}
