//! Looking through a store that no process uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::NewMessage;
use prost::Message as _;

use super::archive;
use super::faults::{Faults, NoFaults};
use super::finding::{Finding, FindingKind};
use super::frame::Kind;
use super::opening::lock_for_reading;
use super::record::{Accepted, Completed, Moved};
use super::recover::{Reading, Recovered, recover};
use super::segment::Access;
use super::state::State;
use super::stored::{queue_id, stored_body};
use crate::store::StoreError;

/// A file that was looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// The file.
    pub file: PathBuf,
    /// Whole records, or journeys.
    pub records: u64,
    /// Bytes up to the end of the last whole one.
    pub bytes: u64,
}

/// A stored body that a queued message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBody {
    /// Its name.
    pub name: String,
    /// Its size as the message has it.
    pub size: u64,
    /// The message.
    pub queue_id: QueueId,
    /// The file that has the message, and where.
    pub file: PathBuf,
    /// The place in the file.
    pub offset: u64,
}

/// What a store holds, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Every file of the log, then every file of journeys.
    pub files: Vec<CheckedFile>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Queued messages.
    pub messages: u64,
    /// Their deliveries that have not ended.
    pub deliveries: u64,
    /// Those of them that are held.
    pub held: u64,
    /// Recipients that have not ended.
    pub open: u64,
    /// Recipients accepted since the store was made.
    pub accepted: u64,
    /// Recipients that have ended as delivered.
    pub delivered: u64,
    /// Recipients that have ended as failed.
    pub failed: u64,
    /// Recipients that an operator removed.
    pub removed: u64,
    /// Stored bodies that queued messages name.
    pub bodies: Vec<NamedBody>,
    /// Stored bodies of messages that have ended, which the server deletes.
    pub ended_bodies: Vec<String>,
}

/// Reads every byte of the store in a folder, as opening it would, and changes nothing.
///
/// # Errors
/// A process uses the store, there is none, a file cannot be opened, or a later version wrote it.
pub fn check(dir: &Path) -> Result<Checked, StoreError> {
    let log_dir = dir.join("log");
    if !log_dir.is_dir() {
        return Err(StoreError::Unavailable(format!(
            "{}: there is no queue here",
            dir.display()
        )));
    }
    let _lock = lock_for_reading(dir)?;
    let mut checked = Checked::default();
    let (journeys, archived) = archive::check(&dir.join("journeys"), &mut checked.findings)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", dir.display())))?;
    let faults: Arc<dyn Faults> = Arc::new(NoFaults);
    let reading = Reading {
        dir: &log_dir,
        access: Access::Read,
        all_content: true,
        archived,
        faults: &faults,
    };
    let recovered = recover(&reading, State::new(1, 0, Arc::default()))?;
    checked.files = recovered
        .ends
        .iter()
        .map(|end| CheckedFile {
            file: end.segment.path.clone(),
            records: end.records,
            bytes: end.at,
        })
        .collect();
    checked
        .files
        .extend(journeys.into_iter().map(|file| CheckedFile {
            file: file.path,
            records: file.journeys,
            bytes: file.bytes,
        }));
    count(&recovered, &mut checked);
    name_bodies(&recovered, &mut checked);
    let journeys = std::mem::replace(&mut checked.findings, recovered.findings);
    checked.findings.extend(journeys);
    Ok(checked)
}

fn count(recovered: &Recovered, checked: &mut Checked) {
    let state = &recovered.state;
    checked.messages = state.messages.len() as u64;
    checked.deliveries = state
        .messages
        .values()
        .flat_map(|message| message.deliveries.as_slice())
        .filter(|delivery| delivery.open > 0)
        .count() as u64;
    checked.held = state.held;
    checked.open = state.open;
    checked.accepted = state.totals.accepted;
    checked.delivered = state.totals.delivered;
    checked.failed = state.totals.failed;
    checked.removed = state.totals.removed;
    checked.ended_bodies = state.ended_bodies.keys().cloned().collect();
}

/// Reads the messages with a stored body once more, for its size.
fn name_bodies(recovered: &Recovered, checked: &mut Checked) {
    for (id, message) in &recovered.state.messages {
        let (Some(body), Some(segment)) = (
            &message.body,
            recovered.segments.get(&message.first.segment),
        ) else {
            continue;
        };
        let queue_id = QueueId::from_u128(*id);
        match segment.read(message.first.offset, false) {
            Ok((header, record, _)) => {
                let stored = message_of(header.kind, record, queue_id);
                let size = stored
                    .filter(|message| stored_body(message) == Some(&body.name))
                    .and_then(|message| message.body)
                    .map_or(0, |body| body.size);
                checked.bodies.push(NamedBody {
                    name: body.name.clone(),
                    size,
                    queue_id,
                    file: segment.path.clone(),
                    offset: u64::from(message.first.offset),
                });
            }
            // It was whole a moment ago.
            Err(error) => checked.findings.push(
                Finding::new(FindingKind::Unreadable, &segment.path, error.to_string())
                    .at(u64::from(message.first.offset))
                    .about(vec![queue_id]),
            ),
        }
    }
}

fn message_of(kind: Kind, record: bytes::Bytes, id: QueueId) -> Option<NewMessage> {
    let accepted = match kind {
        Kind::Accepted => Accepted::decode(record).ok()?,
        Kind::Moved => Moved::decode(record).ok()?.accepted,
        Kind::Completed => Completed::decode(record)
            .ok()?
            .dsn
            .into_iter()
            .map(|dsn| dsn.accepted)
            .find(|accepted| queue_id(&accepted.message) == Some(id))?,
        _ => return None,
    };
    Some(accepted.message)
}
