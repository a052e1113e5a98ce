//! Operators' words, checked.

use postrider_protocol::queue_v1::Filter;
use postrider_protocol::{Destination, QueueId, Status};

use crate::policy::DestinationPattern;

/// Ids in a filter.
const MOST_IDS: usize = 10_000;
/// An address, a name, a reason.
const LONGEST_TEXT: usize = 1024;

/// A filter that makes sense, its destination in lower case.
pub(crate) fn valid(mut filter: Filter) -> Result<Filter, Status> {
    if filter.queue_ids.len() > MOST_IDS {
        return Err(Status::invalid_argument(format!(
            "more than {MOST_IDS} queue ids in a filter"
        )));
    }
    for id in &filter.queue_ids {
        id.parse::<QueueId>()
            .map_err(|error| Status::invalid_argument(format!("{:?}: {error}", short(id))))?;
    }
    for (what, value) in [
        ("the destination", &filter.destination),
        ("the sender", &filter.sender),
        ("the recipient", &filter.recipient),
        ("the tenant", &filter.tenant),
        ("the reply", &filter.last_reply),
    ] {
        text(what, value)?;
    }
    if !filter.destination.is_empty() {
        filter.destination.make_ascii_lowercase();
        filter
            .destination
            .parse::<DestinationPattern>()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
    }
    Ok(filter)
}

/// One destination, not a pattern of them.
pub(crate) fn destination(text: &str) -> Result<Destination, Status> {
    let destination = text.to_ascii_lowercase().parse::<Destination>();
    destination
        .ok()
        .filter(|destination| !destination.as_str().contains('*'))
        .ok_or_else(|| {
            Status::invalid_argument(format!(
                "{:?} is not a destination, as smtp:example.org",
                short(text)
            ))
        })
}

/// Not too long.
pub(crate) fn text(what: &str, text: &str) -> Result<(), Status> {
    match text.len() > LONGEST_TEXT {
        true => Err(Status::invalid_argument(format!(
            "{what} is longer than {LONGEST_TEXT} octets"
        ))),
        false => Ok(()),
    }
}

/// What an operator wrote goes into journeys, logs and onto terminals: without control characters.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}
