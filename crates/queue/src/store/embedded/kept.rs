//! Small things that the store keeps beside the mail: records of the service, suspensions. They are in
//! memory, and in the log: the newest copy of each is written again before its segment goes.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider_protocol::queue_v1::Suspension;
use prost::Message as _;

use super::frame::Location;
use super::record::Keep;
use crate::store::Record;

/// The kind of suspensions. No record of the service can have it: those are letters.
const SUSPENSION: &str = "/suspension";

/// One small thing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) version: u64,
    pub(super) value: Bytes,
    /// Its newest copy.
    pub(super) at: Location,
}

/// All of them, by kind and key.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    things: BTreeMap<(String, String), Kept>,
}

impl Keeping {
    /// The version of a record; 0 if there is none.
    pub(super) fn version(&self, kind: &str, key: &str) -> u64 {
        let place = (kind.to_owned(), key.to_owned());
        self.things.get(&place).map_or(0, |kept| kept.version)
    }

    /// All records of a kind, by key.
    pub(super) fn records(&self, kind: &str) -> Vec<Record> {
        self.things
            .range((kind.to_owned(), String::new())..)
            .take_while(|((of, _), _)| of == kind)
            .map(|((kind, key), kept)| Record {
                kind: kind.clone(),
                key: key.clone(),
                version: kept.version,
                value: kept.value.clone(),
            })
            .collect()
    }

    /// Suspensions that have not been ended.
    pub(super) fn suspensions(&self) -> Vec<Suspension> {
        self.records(SUSPENSION)
            .into_iter()
            .filter_map(|record| Suspension::decode(record.value).ok())
            .collect()
    }

    /// Applies what the log says at a place.
    pub(super) fn apply(&mut self, keep: Keep, at: Location) {
        let place = (keep.kind, keep.key);
        if keep.gone {
            self.things.remove(&place);
        } else {
            let kept = Kept {
                version: keep.version,
                value: keep.value,
                at,
            };
            self.things.insert(place, kept);
        }
    }

    /// Those whose newest copy is in this segment or an earlier one.
    pub(super) fn up_to(&self, segment: u32) -> Vec<Keep> {
        let things = self.things.iter();
        things
            .filter(|(_, kept)| kept.at.segment <= segment)
            .map(|((kind, key), kept)| Keep {
                kind: kind.clone(),
                key: key.clone(),
                version: kept.version,
                value: kept.value.clone(),
                gone: false,
            })
            .collect()
    }

    /// A copy got another place in the log.
    pub(super) fn relocate(&mut self, from: Location, to: Location) {
        for kept in self.things.values_mut() {
            if kept.at == from {
                kept.at = to;
            }
        }
    }
}

impl From<Record> for Keep {
    fn from(record: Record) -> Self {
        Self {
            kind: record.kind,
            key: record.key,
            version: record.version,
            value: record.value,
            gone: false,
        }
    }
}

/// A suspension, to be kept.
pub(super) fn suspension(suspension: &Suspension) -> Keep {
    Keep {
        kind: SUSPENSION.to_owned(),
        key: suspension.id.clone(),
        version: 1,
        value: suspension.encode_to_vec().into(),
        gone: false,
    }
}

/// The end of a suspension.
pub(super) fn suspension_ended(id: &str) -> Keep {
    gone(SUSPENSION, id)
}

/// The end of a record.
pub(super) fn gone(kind: &str, key: &str) -> Keep {
    Keep {
        kind: kind.to_owned(),
        key: key.to_owned(),
        version: 0,
        value: Bytes::new(),
        gone: true,
    }
}
