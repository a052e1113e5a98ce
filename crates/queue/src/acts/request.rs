//! What an operator asks for, checked.

use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::act_request::Act as Wire;
use postrider_protocol::queue_v1::{ActRecord, ActRequest, Filter, Suspension};
use postrider_protocol::{Destination, Status};

use crate::admin::check::{one_line, text, valid};
use crate::store::{Act, By};

/// Queue ids in the filter of an act: with all that is remembered of it, the act has to fit into
/// one record of the store.
const MOST_IDS: usize = 500;

/// An act that makes sense.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) request: ActRequest,
    pub(super) filter: Filter,
}

impl Wanted {
    /// Checks a request.
    pub(super) fn read(mut request: ActRequest) -> Result<Self, Status> {
        act(&request)?;
        let filter = valid(request.filter.take().unwrap_or_default())?;
        if filter.queue_ids.len() > MOST_IDS {
            return Err(Status::invalid_argument(format!(
                "an act takes at most {MOST_IDS} queue ids at once"
            )));
        }
        text("the operator", &request.operator)?;
        text("the reason", &request.reason)?;
        request.operator = one_line(&request.operator);
        request.reason = one_line(&request.reason);
        request.filter = Some(filter.clone());
        Ok(Self { request, filter })
    }

    /// The request for what was accepted until now: an act does not run after what comes later.
    pub(super) fn bounded(&self, now_us: u64) -> ActRequest {
        let before_us = match self.filter.accepted_before_us {
            0 => now_us.saturating_add(1),
            before_us => before_us.min(now_us.saturating_add(1)),
        };
        ActRequest {
            filter: Some(Filter {
                accepted_before_us: before_us,
                ..self.filter.clone()
            }),
            ..self.request.clone()
        }
    }
}

/// The store's word for what is asked for.
pub(super) fn act(request: &ActRequest) -> Result<Act, Status> {
    if request.until_us > 0 && request.act() != Wire::Hold {
        return Err(Status::invalid_argument("only a hold has an end"));
    }
    if !request.destination.is_empty() && request.act() != Wire::Reroute {
        return Err(Status::invalid_argument(
            "only re-routing goes to another destination",
        ));
    }
    Ok(match request.act() {
        Wire::Retry => Act::Retry,
        Wire::Hold => Act::Hold {
            until_us: (request.until_us > 0).then_some(request.until_us),
        },
        Wire::Release => Act::Release,
        Wire::Remove => Act::Remove,
        Wire::Bounce => Act::Bounce,
        Wire::Reroute => Act::Reroute {
            to: to(&request.destination)?,
        },
        Wire::Suspend | Wire::Unspecified => {
            return Err(Status::invalid_argument("no such act"));
        }
    })
}

/// Where deliveries may be sent.
fn to(text: &str) -> Result<Destination, Status> {
    let problem = |problem: &str| {
        let shown: String = text.chars().take(300).collect();
        Status::invalid_argument(format!("{shown:?} is {problem}"))
    };
    let destination: Destination = text
        .to_ascii_lowercase()
        .parse()
        .map_err(|_| problem("not a destination, as smtp:example.org or mailbox:here.test"))?;
    match destination.transport() {
        "smtp" | "mailbox" => {}
        _ => return Err(problem("of a transport that does not exist")),
    }
    let domain = destination.domain();
    if text.len() > 512 || !domain.chars().all(is_of_a_domain) || domain.starts_with('.') {
        return Err(problem("no destination: its domain is none"));
    }
    Ok(destination)
}

fn is_of_a_domain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']')
}

/// Who acts.
pub(super) fn by(request: &ActRequest) -> By {
    By {
        operator: request.operator.clone(),
        reason: request.reason.clone(),
    }
}

/// A suspension as it stands among the acts.
pub(super) fn record_of(suspension: &Suspension) -> ActRecord {
    ActRecord {
        act_id: suspension.id.clone(),
        request: Some(ActRequest {
            act: Wire::Suspend as i32,
            filter: Some(Filter {
                destination: suspension.destination.clone(),
                sender: suspension.sender.clone(),
                tenant: suspension.tenant.clone(),
                ..Filter::default()
            }),
            operator: suspension.operator.clone(),
            reason: suspension.reason.clone(),
            until_us: suspension.until_us,
            ..ActRequest::default()
        }),
        state: State::Done as i32,
        created_us: suspension.created_us,
        ended_us: suspension.created_us,
        ..ActRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_goes_where_it_can() {
        for good in [
            "smtp:a.test",
            "smtp:A.test",
            "mailbox:a.test",
            "smtp:[192.0.2.1]",
            "smtp:[ipv6:2001:db8::1]",
        ] {
            assert!(to(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.test",
            "fax:a.test",
            "smtp:",
            "smtp:*",
            "smtp:*.a.test",
            "smtp:a b",
            "smtp:a\n",
            "smtp:.a",
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_act_does_not_run_after_what_comes_later() {
        let wanted = |before_us| {
            let request = ActRequest {
                act: Wire::Retry as i32,
                filter: Some(Filter {
                    accepted_before_us: before_us,
                    ..Filter::default()
                }),
                ..ActRequest::default()
            };
            let bounded = Wanted::read(request).unwrap().bounded(100);
            bounded.filter.unwrap().accepted_before_us
        };
        assert_eq!(wanted(0), 101);
        assert_eq!(wanted(50), 50);
        assert_eq!(wanted(500), 101);
    }
}
