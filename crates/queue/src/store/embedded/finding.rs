//! What is not as it should be in a store's files, and what that means for mail.
//!
//! Opening a store and checking it offline read the same files with the same code; both collect
//! what they come upon as findings, the one to log and count them, the other to print them.

use std::path::{Path, PathBuf};

use postrider_protocol::QueueId;

/// What was found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// Behind the last whole record of the newest file there is something that is no record.
    TornEnd,
    /// The end of the log is gone: something else knows of later records.
    LostEnd,
    /// Bytes that are no record, before a whole one or in a file that is not the newest.
    DamagedBytes,
    /// A record that is whole by its checksum, and makes no sense.
    SenselessRecord,
    /// A message whose content does not match its checksum.
    DamagedContent,
    /// Records are missing although nothing around them is damaged.
    Gap,
    /// A file of the log is missing between others.
    MissingSegment,
    /// The first bytes of a file of the log, which say what it is.
    DamagedStart,
    /// The disk refused to read a part of a file.
    Unreadable,
    /// A message of which only later records are left.
    LostMessage,
    /// Bytes in a file of journeys that are no journey, before a whole one.
    DamagedJourneys,
    /// Behind the last whole journey there is something that is none.
    TornJourneys,
    /// The index beside a file of journeys.
    DamagedIndex,
    /// A file of journeys is missing between others.
    MissingJourneys,
    /// A queued message names a stored body that is not there.
    MissingBody,
    /// A stored body that is not as long as its message says.
    DamagedBody,
    /// A stored body that no message names.
    OrphanedBody,
}

impl FindingKind {
    /// Its name for programs and as a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TornEnd => "torn-end",
            Self::LostEnd => "lost-end",
            Self::DamagedBytes => "damaged-bytes",
            Self::SenselessRecord => "senseless-record",
            Self::DamagedContent => "damaged-content",
            Self::Gap => "gap",
            Self::MissingSegment => "missing-segment",
            Self::DamagedStart => "damaged-start",
            Self::Unreadable => "unreadable",
            Self::LostMessage => "lost-message",
            Self::DamagedJourneys => "damaged-journeys",
            Self::TornJourneys => "torn-journeys",
            Self::DamagedIndex => "damaged-index",
            Self::MissingJourneys => "missing-journeys",
            Self::MissingBody => "missing-body",
            Self::DamagedBody => "damaged-body",
            Self::OrphanedBody => "orphaned-body",
        }
    }

    /// Whether it is nothing but what a crash leaves behind, and what the store mends by itself.
    #[must_use]
    pub fn is_harmless(self) -> bool {
        matches!(
            self,
            Self::TornEnd | Self::TornJourneys | Self::DamagedIndex | Self::OrphanedBody
        )
    }

    /// What it means for mail.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::TornEnd => {
                "as a crash leaves it: the last write was under way, and nobody was told that it \
                 was accepted"
            }
            Self::LostEnd => {
                "what was accepted or reported last may be lost: accepted mail that is not listed \
                 is gone, and delivered mail may be delivered again"
            }
            Self::DamagedBytes => {
                "records here are lost: a message that was accepted by one of them is gone unless \
                 it is listed, and an outcome in one of them is forgotten, so that its message \
                 may be delivered again. In the newest file it may also be what a loss of power \
                 left of mail that was not yet acknowledged"
            }
            Self::SenselessRecord => "it is passed over, and what it said is not done",
            Self::DamagedContent => {
                "the message is held, so that it is neither lost nor sent mutilated"
            }
            Self::Gap => "what these records said is lost, as with damaged bytes",
            Self::MissingSegment => {
                "messages that were accepted in it are gone, and outcomes in it are forgotten"
            }
            Self::DamagedStart => "the records behind it can be read all the same",
            Self::Unreadable => "what lies there counts as damaged; another try may succeed",
            Self::LostMessage => "the message was queued, and its envelope and content are lost",
            Self::DamagedJourneys => {
                "the history of some messages that have ended is lost; no queued mail is touched"
            }
            Self::TornJourneys => "as a crash leaves it: the log has these journeys",
            Self::DamagedIndex => "it is made again from the journeys when the store opens",
            Self::MissingJourneys => {
                "the history of some messages that have ended is lost; no queued mail is touched"
            }
            Self::MissingBody | Self::DamagedBody => {
                "the message cannot be delivered; it is deferred until the body is there again"
            }
            Self::OrphanedBody => {
                "left by a crash or a session that broke off; the server deletes it after an hour"
            }
        }
    }

    /// What to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::TornEnd | Self::TornJourneys | Self::DamagedIndex | Self::OrphanedBody => {
                "nothing"
            }
            Self::LostEnd | Self::Gap | Self::DamagedBytes | Self::LostMessage => {
                "look at the disk; the damaged file is kept in \"damaged\" when the store opens"
            }
            Self::DamagedContent => {
                "look at the disk, then bounce or remove the message: postrider queue bounce ID"
            }
            Self::SenselessRecord => "report it, with the file, to Postrider's authors",
            Self::MissingSegment | Self::MissingJourneys => {
                "put the file back while the server is stopped, if it can be found"
            }
            Self::DamagedStart | Self::DamagedJourneys => "look at the disk",
            Self::Unreadable => "copy the folder to another disk while this one still can be read",
            Self::MissingBody | Self::DamagedBody => {
                "put the file back, or bounce the message: postrider queue bounce ID"
            }
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The file.
    pub file: PathBuf,
    /// The place in the file.
    pub offset: Option<u64>,
    /// Bytes that are concerned.
    pub len: Option<u64>,
    /// What exactly.
    pub detail: String,
    /// Messages that are touched by it, as far as that is known.
    pub queue_ids: Vec<QueueId>,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, file: &Path, detail: impl Into<String>) -> Self {
        Self {
            kind,
            file: file.to_owned(),
            offset: None,
            len: None,
            detail: detail.into(),
            queue_ids: Vec::new(),
        }
    }

    pub(super) fn at(self, offset: u64) -> Self {
        Self {
            offset: Some(offset),
            ..self
        }
    }

    pub(super) fn range(self, from: u64, to: u64) -> Self {
        Self {
            offset: Some(from),
            len: Some(to.saturating_sub(from)),
            ..self
        }
    }

    pub(super) fn about(self, queue_ids: Vec<QueueId>) -> Self {
        Self { queue_ids, ..self }
    }

    /// Says it in the log and in the metrics.
    pub(super) fn log(&self) {
        let (file, detail) = (self.file.display(), &self.detail);
        let offset = self.offset.unwrap_or_default();
        let (kind, meaning) = (self.kind.name(), self.kind.meaning());
        if self.kind.is_harmless() {
            tracing::info!(%file, offset, kind, meaning, "{detail}");
            return;
        }
        crate::metrics::store_damaged(kind);
        match self.queue_ids.as_slice() {
            [] => {
                tracing::error!(%file, offset, kind, meaning, "the queue's store is damaged: {detail}")
            }
            ids => {
                for id in ids {
                    tracing::error!(queue_id = %id, %file, offset, kind, meaning, "the queue's store is damaged: {detail}");
                }
            }
        }
    }
}
