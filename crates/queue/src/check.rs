//! `postrider store check`: looking through a queue that no server uses.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Context as _;
use postrider_config::ServerConfig;

use crate::bodies::Bodies;
use crate::bodies::config::BodiesKind;
use crate::config::{QueueConfig, StoreKind};
use crate::open;
use crate::store::embedded::{self, Checked, Finding, FindingKind};

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The folder of the store.
    pub dir: PathBuf,
    /// What is in it.
    pub store: Checked,
    /// Where stored bodies are.
    pub bodies: String,
    /// Stored bodies that are there.
    pub bodies_there: u64,
}

impl Report {
    /// Whether nothing is damaged or missing. What a crash leaves and the server mends by itself
    /// does not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let mut findings = self.store.findings.iter();
        findings.all(|finding| finding.kind.is_harmless())
    }
}

/// Looks through the configured embedded store and its stored bodies. Changes nothing.
///
/// # Errors
/// The store is in use, is not an embedded one, or cannot be read at all.
pub async fn check(server: &ServerConfig, config: &QueueConfig) -> anyhow::Result<Report> {
    anyhow::ensure!(
        config.store == StoreKind::Embedded,
        "queue.store is \"redis\": only an embedded store has files to check"
    );
    let dir = open::embedded_dir(server, config);
    let checked = {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || embedded::check(&dir)).await??
    };
    let mut report = Report {
        dir,
        store: checked,
        bodies: place(server, config),
        bodies_there: 0,
    };
    check_bodies(server, config, &mut report).await?;
    Ok(report)
}

fn place(server: &ServerConfig, config: &QueueConfig) -> String {
    let bodies = &config.bodies;
    match bodies.kind {
        BodiesKind::Folder if bodies.dir.as_os_str().is_empty() => {
            server.data_dir.join("bodies").display().to_string()
        }
        BodiesKind::Folder => bodies.dir.display().to_string(),
        BodiesKind::S3 => format!(
            "s3://{}/{}",
            bodies.s3.bucket,
            bodies.s3.prefix.trim_matches('/')
        ),
    }
}

async fn check_bodies(
    server: &ServerConfig,
    config: &QueueConfig,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut there: HashMap<String, u64> = HashMap::new();
    // Opening would make the folder, and a check changes nothing.
    let is_absent =
        config.bodies.kind == BodiesKind::Folder && !PathBuf::from(&report.bodies).is_dir();
    if !is_absent {
        let bodies: Bodies = open::bodies(server, config)?;
        bodies
            .each(|name, size| {
                there.insert(name, size);
            })
            .await
            .with_context(|| format!("listing stored bodies in {}", report.bodies))?;
    }
    report.bodies_there = there.len() as u64;
    let mut named: HashSet<&str> = HashSet::new();
    let mut findings = Vec::new();
    for body in &report.store.bodies {
        named.insert(&body.name);
        let (kind, detail) = match there.get(&body.name) {
            Some(size) if *size == body.size => continue,
            Some(size) => (
                FindingKind::DamagedBody,
                format!(
                    "stored body {} of message {} has {size} bytes, and should have {}",
                    body.name, body.queue_id, body.size
                ),
            ),
            None => (
                FindingKind::MissingBody,
                format!(
                    "stored body {} of message {} is missing in {}",
                    body.name, body.queue_id, report.bodies
                ),
            ),
        };
        findings.push(Finding {
            kind,
            file: body.file.clone(),
            offset: Some(body.offset),
            len: None,
            detail,
            queue_ids: vec![body.queue_id],
        });
    }
    named.extend(report.store.ended_bodies.iter().map(String::as_str));
    let mut orphans: Vec<_> = there
        .iter()
        .filter(|(name, _)| !named.contains(name.as_str()))
        .collect();
    orphans.sort_unstable();
    findings.extend(orphans.into_iter().map(|(name, size)| Finding {
        kind: FindingKind::OrphanedBody,
        file: PathBuf::from(&report.bodies).join(name),
        offset: None,
        len: Some(*size),
        detail: "no message names it".to_owned(),
        queue_ids: Vec::new(),
    }));
    report.store.findings.extend(findings);
    Ok(())
}
