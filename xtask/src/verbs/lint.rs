//! Format, clippy, and dependencies that must not come in.

use anyhow::bail;

use crate::report::Report;
use crate::shell::{self, cargo, exists};

/// Crates that must not be in the tree: a second crypto library, or system libraries. `deny.toml`
/// says the same, with reasons, to cargo-deny.
const BANNED: &[&str] = &["ring", "openssl-sys", "native-tls", "rsa"];
/// Crates of which two versions would be two of everything: types that do not fit each other, or
/// minutes of building.
const SINGLE: &[&str] = &[
    "tonic",
    "prost",
    "opentelemetry",
    "opentelemetry_sdk",
    "rustls",
    "aws-lc-sys",
];

/// The verb.
///
/// # Errors
/// A section failed.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut report = Report::new("lint");
    sections(&mut report);
    report.finish()
}

/// The sections, for longer runs.
pub(crate) fn sections(report: &mut Report) {
    report.section("format", || {
        shell::run(&mut cargo(&["fmt", "--all", "--check"]))
    });
    report.section("clippy", || {
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--quiet",
        ];
        shell::run(cargo(&clippy).args(["--", "-D", "warnings"]))
    });
    report.section("dependencies", dependencies);
}

fn dependencies() -> anyhow::Result<()> {
    let tree = [
        "tree",
        "--workspace",
        "--edges=normal,build",
        "--prefix=none",
        "--format={p}",
        "--locked",
    ];
    let tree = shell::output(&mut cargo(&tree))?;
    let mut packages: Vec<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    packages.sort_unstable();
    packages.dedup();
    let mut problems = Vec::new();
    for banned in BANNED {
        if packages.iter().any(|(name, _)| name == banned) {
            problems.push(format!(
                "{banned} is in the tree: `cargo tree --invert {banned}` says why"
            ));
        }
    }
    for single in SINGLE {
        let versions: Vec<_> = packages
            .iter()
            .filter(|(name, _)| name == single)
            .map(|(_, version)| *version)
            .collect();
        if versions.len() > 1 {
            problems.push(format!(
                "{single} is there more than once: {}",
                versions.join(", ")
            ));
        }
    }
    if !problems.is_empty() {
        bail!(problems.join("\n"));
    }
    println!("{} packages, none of them banned or double", packages.len());
    if exists("cargo-deny", &["--version"]) {
        shell::run(&mut cargo(&[
            "deny",
            "--offline",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))?;
    }
    Ok(())
}
