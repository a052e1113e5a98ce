//! Acts and suspensions, as people read them.

use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::act_request::Act;
use postrider_protocol::queue_v1::{
    ActRecord, ActRequest, ActResponse, Filter, SuspendResponse, Suspension,
};

use super::{count, indented, minute};
use crate::json;
use crate::table::aligned;
use crate::term::Style;

/// What an act did, or several that were one command.
#[derive(Debug, Default)]
pub struct Acted {
    /// Deliveries that fit.
    pub matched: u64,
    /// Deliveries that changed.
    pub changed: u64,
    /// Queue ids of the first.
    pub sample: Vec<String>,
    /// By which they are known to the queue.
    pub act_ids: Vec<String>,
    /// Nothing goes on.
    pub done: bool,
    /// Why not all was done.
    pub problem: String,
}

impl From<ActResponse> for Acted {
    fn from(response: ActResponse) -> Self {
        Self {
            matched: response.matched,
            changed: response.changed,
            sample: response.sample,
            act_ids: match response.act_id.is_empty() {
                true => Vec::new(),
                false => vec![response.act_id],
            },
            done: response.done,
            problem: String::new(),
        }
    }
}

impl Acted {
    /// What it has become meanwhile.
    pub(in crate::commands::queue) fn until(self, record: Option<ActRecord>) -> Self {
        match record {
            None => self,
            Some(record) => Self {
                matched: record.matched,
                changed: record.changed,
                done: !matches!(record.state(), State::Running | State::Undoing),
                problem: match record.state() {
                    State::Undone => format!("undone by {}", record.undone_by),
                    _ => record.problem,
                },
                sample: record.sample,
                act_ids: self.act_ids,
            },
        }
    }

    /// Another one of the same command.
    pub(in crate::commands::queue) fn add(&mut self, other: Self) {
        self.done = other.done && (self.done || self.matched == 0);
        self.matched += other.matched;
        self.changed += other.changed;
        self.sample.extend(other.sample);
        self.act_ids.extend(other.act_ids);
        if self.problem.is_empty() {
            self.problem = other.problem;
        }
    }
}

/// What an act did.
pub(in crate::commands::queue) fn act(
    request: &ActRequest,
    acted: &Acted,
    style: Style,
) -> Vec<String> {
    let done = match request.act() {
        Act::Retry => "made due now".to_owned(),
        Act::Hold if request.until_us > 0 => format!("held until {}", minute(request.until_us)),
        Act::Hold => "held".to_owned(),
        Act::Release => "released".to_owned(),
        Act::Remove => "removed".to_owned(),
        Act::Bounce => "ended as failed".to_owned(),
        Act::Reroute => format!("sent to {}", request.destination),
        Act::Suspend | Act::Unspecified => "left alone".to_owned(),
    };
    let mut lines = vec![match (request.preview, acted.done) {
        (_, true) if acted.matched == 0 => "No deliveries match.".to_owned(),
        (true, true) => format!("{} would be {done}.", count(acted.matched)),
        (true, false) => format!("{} and more would be {done}.", count(acted.matched)),
        (false, true) => format!("{} of {} {done}.", acted.changed, count(acted.matched)),
        (false, false) => format!(
            "{} of {} {done} so far; it goes on in the background.",
            acted.changed,
            count(acted.matched)
        ),
    }];
    if !acted.problem.is_empty() {
        lines.extend(indented(&acted.problem, style));
    }
    lines.extend(acted.sample.iter().map(|id| format!("  {id}")));
    if let (false, [id]) = (request.preview, acted.act_ids.as_slice()) {
        lines.push(format!("Act {id}"));
    }
    lines
}

/// How far an act is, on one line.
pub(in crate::commands::queue) fn progress(record: &ActRecord) -> String {
    match record.state() {
        State::Undoing => format!("{} released so far", count(record.undone)),
        _ => format!("{} of {} so far", record.changed, count(record.matched)),
    }
}

/// Acts as they are remembered.
pub(in crate::commands::queue) fn acts(acts: &[ActRecord], style: Style) -> Vec<String> {
    if acts.is_empty() {
        return vec!["No acts.".to_owned()];
    }
    let mut rows = vec![
        ["ACT", "BEGAN (UTC)", "WHAT", "STATE", "CHANGED"]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    rows.extend(acts.iter().map(|record| {
        let kind = record
            .request
            .as_ref()
            .map_or(Act::Unspecified, |request| request.act());
        vec![
            record.act_id.clone(),
            minute(record.created_us),
            json::act_kind(kind).to_owned(),
            json::act_state(record.state()).to_owned(),
            match kind {
                Act::Suspend => String::new(),
                _ => format!("{} of {}", record.changed, record.matched),
            },
        ]
    }));
    let mut table = aligned(&rows, style.unicode).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (line, record) in table.zip(acts) {
        lines.push(line);
        lines.extend(indented(&details(record), style));
        if !record.undone_by.is_empty() {
            lines.extend(indented(&undone(record), style));
        }
        if !record.problem.is_empty() {
            lines.extend(indented(&record.problem, style));
        }
    }
    lines
}

fn details(record: &ActRecord) -> String {
    let request = record.request.clone().unwrap_or_default();
    let mut filter = request.filter.clone().unwrap_or_default();
    // What is later than the act does not concern it; that need not be said.
    if filter.accepted_before_us > record.created_us {
        filter.accepted_before_us = 0;
    }
    let mut text = words(&filter);
    if request.act() == Act::Reroute {
        text.push_str(&format!(", now to {}", request.destination));
    }
    if request.until_us > 0 {
        text.push_str(&format!(", until {}", minute(request.until_us)));
    }
    text.push_str(&signed(&request.operator, &request.reason));
    text
}

fn undone(record: &ActRecord) -> String {
    let kind = record
        .request
        .as_ref()
        .map_or(Act::Unspecified, |request| request.act());
    let what = match kind {
        Act::Suspend => "resumed".to_owned(),
        Act::Hold => format!("undone: {} released", count(record.undone)),
        _ => "stopped".to_owned(),
    };
    what + &signed(&record.undone_by, &record.undone_reason)
}

fn signed(operator: &str, reason: &str) -> String {
    match reason {
        "" => format!("; by {operator}"),
        reason => format!("; by {operator}: {reason}"),
    }
}

/// What a filter matches.
fn words(filter: &Filter) -> String {
    let mut words = Vec::new();
    match filter.queue_ids.as_slice() {
        [] => {}
        [only] => words.push(only.clone()),
        ids => words.push(format!("{} queue ids", ids.len())),
    }
    for (word, text) in [
        ("to", &filter.destination),
        ("from", &filter.sender),
        ("for", &filter.recipient),
        ("of tenant", &filter.tenant),
        ("with the reply", &filter.last_reply),
    ] {
        if !text.is_empty() {
            words.push(format!("{word} {text}"));
        }
    }
    for (word, is) in [
        ("held", filter.held),
        ("suspended", filter.suspended),
        ("with an unknown outcome", filter.unknown),
    ] {
        if is {
            words.push(word.to_owned());
        }
    }
    if filter.min_attempts > 0 {
        words.push(format!("after {} attempts or more", filter.min_attempts));
    }
    if filter.accepted_before_us > 0 {
        words.push(format!(
            "accepted before {}",
            minute(filter.accepted_before_us)
        ));
    }
    if filter.accepted_after_us > 0 {
        words.push(format!(
            "accepted after {}",
            minute(filter.accepted_after_us)
        ));
    }
    match words.is_empty() {
        true => "everything".to_owned(),
        false => words.join(", "),
    }
}

/// What a suspension stops.
pub(in crate::commands::queue) fn suspended(
    response: &SuspendResponse,
    preview: bool,
) -> Vec<String> {
    let suspension = response.suspension.clone().unwrap_or_default();
    let more = if response.more { " and more" } else { "" };
    let mut lines = vec![match preview {
        true => format!("{}{more} would be stopped now.", count(response.matched)),
        false => format!("Suspended; it stops {}{more} now.", count(response.matched)),
    }];
    lines.extend(response.sample.iter().map(|id| format!("  {id}")));
    if !preview {
        lines.push(format!("Suspension {}", suspension.id));
    }
    lines
}

/// What is suspended now.
pub(in crate::commands::queue) fn suspensions(
    suspensions: &[Suspension],
    style: Style,
) -> Vec<String> {
    if suspensions.is_empty() {
        return vec!["Nothing is suspended.".to_owned()];
    }
    let mut rows = vec![
        ["SUSPENSION", "SINCE (UTC)", "UNTIL (UTC)"]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    rows.extend(suspensions.iter().map(|suspension| {
        vec![
            suspension.id.clone(),
            minute(suspension.created_us),
            match suspension.until_us {
                0 => "resumed".to_owned(),
                until_us => minute(until_us),
            },
        ]
    }));
    let mut table = aligned(&rows, style.unicode).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (line, suspension) in table.zip(suspensions) {
        lines.push(line);
        let filter = Filter {
            destination: suspension.destination.clone(),
            sender: suspension.sender.clone(),
            tenant: suspension.tenant.clone(),
            ..Filter::default()
        };
        let text = words(&filter) + &signed(&suspension.operator, &suspension.reason);
        lines.extend(indented(&text, style));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagram::text::width;

    const US: u64 = 1_764_027_667_123_456;

    fn record(act: Act, state: State, filter: Filter) -> ActRecord {
        ActRecord {
            act_id: "01kay7zs3qe9x8vq2m6f0c5w4t".to_owned(),
            request: Some(ActRequest {
                act: act as i32,
                filter: Some(filter),
                operator: "ann".to_owned(),
                reason: "their server is being moved, as they told us on the phone".to_owned(),
                ..ActRequest::default()
            }),
            state: state as i32,
            created_us: US,
            matched: 120_000,
            changed: 119_990,
            ..ActRecord::default()
        }
    }

    #[test]
    fn acts_fit_the_terminal() {
        let to = Filter {
            destination: "smtp:*.example.org".to_owned(),
            accepted_before_us: US + 1,
            ..Filter::default()
        };
        let all = [
            record(Act::Retry, State::Running, to.clone()),
            ActRecord {
                undone: 119_000,
                undone_by: "eve".to_owned(),
                ..record(Act::Hold, State::Undone, to)
            },
            record(
                Act::Suspend,
                State::Done,
                Filter {
                    tenant: "acme".to_owned(),
                    ..Filter::default()
                },
            ),
            ActRecord {
                problem: "the store is damaged: somewhere".to_owned(),
                ..record(Act::Remove, State::Failed, Filter::default())
            },
        ];
        let lines = acts(&all, Style::plain(80));
        assert_eq!(
            lines.join("\n"),
            include_str!("acts-80.txt").trim_end(),
            "\n{}",
            lines.join("\n")
        );
        assert!(lines.iter().all(|line| width(line) <= 80));
    }

    #[test]
    fn suspensions_fit_the_terminal() {
        let suspension = |until_us| Suspension {
            id: "01kay7zs3qe9x8vq2m6f0c5w4t".to_owned(),
            sender: "@news.example.org".to_owned(),
            created_us: US,
            until_us,
            operator: "ann".to_owned(),
            ..Suspension::default()
        };
        let lines = suspensions(&[suspension(0), suspension(US)], Style::plain(80));
        assert_eq!(
            lines.join("\n"),
            "\
SUSPENSION                  SINCE (UTC)       UNTIL (UTC)
01kay7zs3qe9x8vq2m6f0c5w4t  2025-11-24 23:41  resumed
    from @news.example.org; by ann
01kay7zs3qe9x8vq2m6f0c5w4t  2025-11-24 23:41  2025-11-24 23:41
    from @news.example.org; by ann"
        );
    }

    #[test]
    fn one_command_may_be_several_acts() {
        let acted = |done, matched| Acted {
            done,
            matched,
            changed: 1,
            act_ids: vec!["x".to_owned()],
            ..Acted::default()
        };
        let mut sum = Acted::default();
        sum.add(acted(true, 2));
        assert!(sum.done);
        sum.add(acted(false, 3));
        sum.add(acted(true, 1));
        assert!(!sum.done);
        assert_eq!((sum.matched, sum.changed, sum.act_ids.len()), (6, 3, 3));
    }
}
