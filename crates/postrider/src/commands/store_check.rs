//! How the report of `postrider store check` is shown.

use std::collections::HashMap;
use std::path::Path;

use postrider_queue::check::Report;
use postrider_queue::store::embedded::{Finding, FindingKind};
use serde_json::{Value, json};

use crate::table::aligned;
use crate::term::Style;

/// Places that are named of each kind; programs get all.
const PLACES: usize = 20;

/// For programs. Fields are only ever added.
pub(super) fn json(report: &Report) -> Value {
    let store = &report.store;
    json!({
        "dir": report.dir.display().to_string(),
        "clean": report.is_clean(),
        "files": store.files.iter().map(|file| json!({
            "file": file.file.display().to_string(),
            "records": file.records,
            "bytes": file.bytes,
        })).collect::<Vec<_>>(),
        "findings": store.findings.iter().map(finding).collect::<Vec<_>>(),
        "messages": store.messages,
        "deliveries": { "open": store.deliveries, "held": store.held },
        "recipients": {
            "accepted": store.accepted,
            "delivered": store.delivered,
            "failed": store.failed,
            "removed": store.removed,
            "open": store.open,
        },
        "bodies": {
            "place": report.bodies,
            "there": report.bodies_there,
            "named": store.bodies.len(),
            "ended": store.ended_bodies.len(),
        },
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.name(),
        "harmless": finding.kind.is_harmless(),
        "file": finding.file.display().to_string(),
        "offset": finding.offset,
        "len": finding.len,
        "detail": finding.detail,
        "meaning": finding.kind.meaning(),
        "advice": finding.kind.advice(),
        "queue_ids": finding.queue_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// For people.
pub(super) fn text(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!("The queue in {}", report.dir.display()),
        String::new(),
    ];
    lines.extend(files(report));
    let mut kinds: Vec<FindingKind> = Vec::new();
    for found in &report.store.findings {
        if !kinds.contains(&found.kind) {
            kinds.push(found.kind);
        }
    }
    for (title, harmless) in [("Damage:", false), ("Of no consequence:", true)] {
        let of_this: Vec<_> = kinds
            .iter()
            .filter(|kind| kind.is_harmless() == harmless)
            .collect();
        if !of_this.is_empty() {
            lines.extend([String::new(), title.to_owned()]);
            of_this
                .into_iter()
                .for_each(|kind| lines.extend(group(report, *kind)));
        }
    }
    lines.push(String::new());
    lines.extend(totals(report));
    lines
}

fn files(report: &Report) -> Vec<String> {
    let mut found: HashMap<&Path, u64> = HashMap::new();
    for damage in &report.store.findings {
        if !damage.kind.is_harmless() {
            *found.entry(&damage.file).or_default() += 1;
        }
    }
    let mut rows = vec![
        ["FILE", "RECORDS", "BYTES", "FOUND"]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    rows.extend(report.store.files.iter().map(|file| {
        vec![
            short(report, &file.file),
            file.records.to_string(),
            file.bytes.to_string(),
            match found.get(file.file.as_path()) {
                None => "whole".to_owned(),
                Some(1) => "damaged in 1 place".to_owned(),
                Some(places) => format!("damaged in {places} places"),
            },
        ]
    }));
    aligned(&rows, Style::of_stdout().unicode)
}

/// A path as it is best read: from the folder on.
fn short(report: &Report, path: &Path) -> String {
    let path = path.strip_prefix(&report.dir).unwrap_or(path);
    path.display().to_string()
}

fn group(report: &Report, kind: FindingKind) -> Vec<String> {
    let findings: Vec<&Finding> = report
        .store
        .findings
        .iter()
        .filter(|finding| finding.kind == kind)
        .collect();
    let mut lines: Vec<String> = findings
        .iter()
        .take(PLACES)
        .map(|finding| {
            let place = match finding.offset {
                Some(offset) => format!("{}, at byte {offset}", short(report, &finding.file)),
                None => short(report, &finding.file),
            };
            format!("  {place}: {}", finding.detail)
        })
        .collect();
    if findings.len() > PLACES {
        let more = findings.len() - PLACES;
        lines.push(format!("  and {more} more of this kind; --json names all"));
    }
    lines.push(format!("    For mail: {}.", kind.meaning()));
    if !kind.is_harmless() {
        lines.push(format!("    To do: {}.", kind.advice()));
    }
    lines
}

fn totals(report: &Report) -> Vec<String> {
    let store = &report.store;
    let damage = store
        .findings
        .iter()
        .filter(|found| !found.kind.is_harmless());
    vec![
        format!(
            "Queued: {} messages with {} deliveries ({} held) to {} recipients.",
            store.messages, store.deliveries, store.held, store.open
        ),
        format!(
            "Recipients since the store was made: {} accepted, {} delivered, {} failed, {} removed.",
            store.accepted, store.delivered, store.failed, store.removed
        ),
        format!(
            "Stored bodies in {}: {} there, {} named by queued messages.",
            report.bodies,
            report.bodies_there,
            store.bodies.len()
        ),
        match damage.count() {
            0 => "Nothing is damaged.".to_owned(),
            1 => "Damage was found in 1 place.".to_owned(),
            places => format!("Damage was found in {places} places."),
        },
    ]
}
