//! Bringing in the programs that the tests speak with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::packages::{CLIENTS, MESSAGES, SERVER_PROGRAMS, SERVERS};
use crate::shell::{self, exists, run};

/// The folder into which servers are unpacked.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("POSTRIDER_PEERS").map_or_else(|| shell::target().join("peers"), PathBuf::from)
}

/// Makes sure that every client is installed and every server unpacked.
///
/// # Errors
/// Something is missing and cannot be fetched; the message says what to install.
pub(crate) fn fetch() -> anyhow::Result<()> {
    let servers_are_there = are_unpacked(&folder());
    let mut missing: Vec<String> = CLIENTS
        .iter()
        .chain(&[MESSAGES])
        .filter(|name| !is_installed(name))
        .map(|name| (*name).to_owned())
        .collect();
    if missing.is_empty() && servers_are_there {
        println!("every peer is here");
        return Ok(());
    }
    if !exists("apt-get", &["--version"]) || !exists("dpkg", &["--version"]) {
        bail!(
            "this is no Debian. Install what provides {}; and unpack {} into {}",
            missing.join(" "),
            SERVERS.join(" "),
            folder().display()
        );
    }
    // A fresh machine knows no packages yet.
    if !exists("apt-cache", &["show", SERVERS[0]]) {
        run(&mut as_root(&["apt-get", "update"])?)?;
    }
    if !servers_are_there {
        missing.extend(libraries()?.into_iter().filter(|name| !is_installed(name)));
    }
    if let Some(messages) = missing.iter_mut().find(|name| *name == MESSAGES) {
        *messages = MESSAGES.replace('*', &python_version()?);
    }
    if !missing.is_empty() {
        install(&missing)?;
    }
    if !servers_are_there {
        unpack(&folder())?;
    }
    Ok(())
}

/// Whether a package, or one whose name fits, is installed.
fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}\n", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .any(|status| status == "installed")
        })
}

/// "11" where `python3` is Python 3.11.
fn python_version() -> anyhow::Result<String> {
    let depends = shell::output(Command::new("apt-cache").args(["depends", "python3"]))?;
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: python3."))
        .find(|version| version.bytes().all(|b| b.is_ascii_digit()))
        .map(str::to_owned)
        .context("which version python3 is")
}

fn are_unpacked(folder: &Path) -> bool {
    SERVER_PROGRAMS
        .iter()
        .all(|program| folder.join(program).exists())
}

/// The libraries that the servers need. Their names differ from one release of Debian to the next,
/// so the packages themselves are asked.
fn libraries() -> anyhow::Result<Vec<String>> {
    let depends = shell::output(
        Command::new("apt-cache")
            .args(["depends", "--no-recommends", "--no-suggests"])
            .args(SERVERS),
    )?;
    let mut libraries: Vec<String> = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("lib"))
        .map(str::to_owned)
        .collect();
    libraries.sort();
    libraries.dedup();
    Ok(libraries)
}

fn install(packages: &[String]) -> anyhow::Result<()> {
    let mut arguments = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    arguments.extend(packages.iter().map(String::as_str));
    let attempt = || -> anyhow::Result<()> { run(&mut as_root(&arguments)?) };
    // What the machine knows of packages may be older than what the mirror has.
    attempt()
        .or_else(|_| {
            run(&mut as_root(&["apt-get", "update"])?)?;
            attempt()
        })
        .with_context(|| format!("to install by hand: apt-get install {}", packages.join(" ")))
}

/// A command that runs as root: at once, or through a `sudo` that asks nothing.
fn as_root(arguments: &[&str]) -> anyhow::Result<Command> {
    let id = shell::output(Command::new("id").arg("-u"))?;
    let mut command = if id.trim() == "0" {
        Command::new("env")
    } else if exists("sudo", &["-n", "true"]) {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "env"]);
        sudo
    } else {
        bail!("needs root, or a sudo without a password");
    };
    command
        .arg("DEBIAN_FRONTEND=noninteractive")
        .args(arguments);
    Ok(command)
}

/// Unpacks the servers beside the place and renames, so that a run that is cut short leaves nothing half done.
fn unpack(folder: &Path) -> anyhow::Result<()> {
    let beside = folder.with_extension("new");
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    let archives = beside.join("archives");
    fs::create_dir_all(&archives)?;
    run(Command::new("apt-get")
        .arg("download")
        .args(SERVERS)
        .current_dir(&archives))?;
    for archive in fs::read_dir(&archives)? {
        run(Command::new("dpkg")
            .arg("--extract")
            .arg(archive?.path())
            .arg(&beside))?;
    }
    fs::remove_dir_all(&archives)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&beside, folder)?;
    if !are_unpacked(folder) {
        bail!(
            "{} do not hold {}",
            SERVERS.join(", "),
            SERVER_PROGRAMS.join(" and ")
        );
    }
    Ok(())
}
