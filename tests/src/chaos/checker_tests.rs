//! A checker that cannot fail is none: each fault, planted, must be found.

use std::time::Duration;

use super::checker::check;
use super::history::{
    Accepted, Arrival, Attempt, Counts, Crowd, Deaf, Event, History, Outcome, Report,
};

const A: &str = "a@one.test";
const B: &str = "b@two.test";
const SENDER: &str = "sender@origin.test";

fn arrival(queue_id: &str, destination: &str, recipient: &str) -> Arrival {
    Arrival {
        destination: destination.to_owned(),
        worker: "d1".to_owned(),
        queue_id: queue_id.to_owned(),
        recipients: vec![recipient.to_owned()],
        whole: true,
        ..Arrival::default()
    }
}

fn attempt(destination: &str, number: u32, recipient: &str, outcome: Outcome) -> Event {
    Event::Attempt(Attempt {
        destination: destination.to_owned(),
        number,
        started_us: u64::from(number) * 1_000,
        ended_us: u64::from(number) * 1_000 + 500,
        outcomes: vec![(recipient.to_owned(), outcome)],
    })
}

/// One message to two recipients, of whom one fails, and the DSN about that.
fn good() -> History {
    let mut dsn = arrival("dsn", "smtp:origin.test", SENDER);
    dsn.report = Some(Report {
        about: "id".to_owned(),
        failed: vec![B.to_owned()],
    });
    History {
        lease: Duration::from_secs(3),
        slots: 2,
        accepted: vec![Accepted {
            number: 1,
            queue_id: "id".to_owned(),
            recipients: vec![A.to_owned(), B.to_owned()],
        }],
        arrivals: vec![arrival("id", "smtp:one.test", A), dsn],
        journeys: [
            (
                "id".to_owned(),
                vec![
                    Event::Queued,
                    attempt("smtp:one.test", 1, A, Outcome::Deferred),
                    attempt("smtp:two.test", 1, B, Outcome::Failed),
                    Event::Dsn("dsn".to_owned()),
                    attempt("smtp:one.test", 2, A, Outcome::Delivered),
                ],
            ),
            (
                "dsn".to_owned(),
                vec![
                    Event::Queued,
                    attempt("smtp:origin.test", 1, SENDER, Outcome::Delivered),
                ],
            ),
        ]
        .into(),
        counts: Counts {
            accepted: 3,
            delivered: 2,
            failed: 1,
            ..Counts::default()
        },
        ..History::default()
    }
}

/// Plants a fault, and gives what is found.
fn with(plant: impl FnOnce(&mut History)) -> String {
    let mut history = good();
    plant(&mut history);
    check(&history).join("\n")
}

fn journey<'a>(history: &'a mut History, id: &str) -> &'a mut Vec<Event> {
    history.journeys.get_mut(id).unwrap()
}

fn lapsed() -> Event {
    Event::Lapsed {
        destination: Some("smtp:one.test".to_owned()),
    }
}

#[test]
fn a_good_run_has_no_problems() {
    assert_eq!(with(|_| {}), "");
}

#[test]
fn a_message_that_never_arrived() {
    let found = with(|history| {
        history.arrivals.remove(0);
    });
    assert_eq!(
        found,
        "id for a@one.test is called delivered and did not arrive"
    );
}

#[test]
fn a_recipient_that_never_ended() {
    let found = with(|history| {
        journey(history, "id").pop();
        history.counts.delivered = 1;
        history.counts.open = 1;
    });
    assert!(found.contains("has not ended: Some(Deferred)"), "{found}");
    assert!(found.contains("1 recipients are still open"), "{found}");
}

#[test]
fn a_message_that_the_queue_does_not_know() {
    let found = with(|history| {
        history.journeys.remove("id");
    });
    assert!(
        found.contains("id was accepted and has no journey"),
        "{found}"
    );
    assert!(
        found.contains("id arrived for a@one.test and has no journey"),
        "{found}"
    );
}

#[test]
fn a_duplicate_without_a_reason() {
    let again = |history: &mut History| {
        let again = history.arrivals[0].clone();
        history.arrivals.push(again);
    };
    let found = with(again);
    assert!(
        found.contains("id arrived 2 times for a@one.test"),
        "{found}"
    );
    // A deferral is no reason, and neither is a lapse of another delivery.
    let found = with(|history| {
        again(history);
        journey(history, "id").insert(
            1,
            Event::Lapsed {
                destination: Some("smtp:two.test".to_owned()),
            },
        );
        if let Event::Attempt(attempt) = &mut journey(history, "id")[3] {
            attempt.number = 2;
        }
    });
    assert!(
        found.contains("id arrived 2 times for a@one.test"),
        "{found}"
    );
    // An unknown outcome is.
    let found = with(|history| {
        again(history);
        journey(history, "id")[1] = attempt("smtp:one.test", 1, A, Outcome::Unknown);
    });
    assert_eq!(found, "");
    // So is a lease that ended without a word.
    let found = with(|history| {
        again(history);
        journey(history, "id")[1] = lapsed();
    });
    assert_eq!(found, "");
    // But only for one more.
    let found = with(|history| {
        again(history);
        again(history);
        journey(history, "id")[1] = lapsed();
    });
    assert!(
        found.contains("id arrived 3 times for a@one.test"),
        "{found}"
    );
}

#[test]
fn a_message_that_was_accepted_twice() {
    let twice = |history: &mut History| {
        history.accepted[0].recipients.pop();
        let mut other = history.accepted[0].clone();
        other.queue_id = "other".to_owned();
        history.accepted.push(other);
        history.arrivals.push(arrival("other", "smtp:one.test", A));
        history.journeys.insert(
            "other".to_owned(),
            vec![
                Event::Queued,
                attempt("smtp:one.test", 1, A, Outcome::Delivered),
            ],
        );
        history.counts.accepted += 1;
        history.counts.delivered += 1;
    };
    assert!(with(twice).contains("message 1 was accepted as"));
    let found = with(|history| {
        twice(history);
        history.unanswered.insert(1);
    });
    assert_eq!(found, "");
}

#[test]
fn a_content_that_was_changed() {
    let found = with(|history| history.arrivals[0].whole = false);
    assert_eq!(found, "id arrived at smtp:one.test with another content");
}

#[test]
fn a_connection_too_many() {
    let crowd = |history: &mut History, workers: &[&str]| {
        history.crowds.push(Crowd {
            at: Duration::from_secs(5),
            destination: "smtp:one.test".to_owned(),
            workers: workers.iter().map(|name| (*name).to_owned()).collect(),
        });
    };
    let deaf = |history: &mut History, from: u64, to: u64| {
        history.deaf.push(Deaf {
            worker: "d2".to_owned(),
            from: Duration::from_secs(from),
            to: Duration::from_secs(to),
        });
    };
    let found = with(|history| crowd(history, &["d1", "d1", "d2"]));
    assert!(
        found.contains("smtp:one.test had 3 connections at 5.000 s"),
        "{found}"
    );
    let excused = with(|history| {
        crowd(history, &["d1", "d1", "d2"]);
        deaf(history, 4, 6);
    });
    assert_eq!(excused, "");
    for (from, to) in [(1, 2), (6, 8)] {
        let found = with(|history| {
            crowd(history, &["d1", "d1", "d2"]);
            deaf(history, from, to);
        });
        assert!(
            found.contains("had 3 connections"),
            "{from} to {to}: {found}"
        );
    }
    // The others have to keep the limit all the same.
    let found = with(|history| {
        crowd(history, &["d1", "d1", "d3", "d2"]);
        deaf(history, 4, 6);
    });
    assert!(found.contains("had 3 connections"), "{found}");
}

#[test]
fn a_stale_completion_that_was_applied() {
    let found = with(|history| {
        journey(history, "id")[1] = lapsed();
        if let Event::Attempt(attempt) = &mut journey(history, "id")[4] {
            attempt.number = 1;
        }
    });
    assert_eq!(
        found,
        "id at smtp:one.test: attempt 1 was applied where 2 was due"
    );
    let found = with(|history| {
        let again = journey(history, "id")[1].clone();
        journey(history, "id").insert(2, again);
    });
    assert!(
        found.contains("attempt 1 was applied where 2 was due"),
        "{found}"
    );
}

#[test]
fn two_holders_at_one_time() {
    let found = with(|history| {
        if let Event::Attempt(attempt) = &mut journey(history, "id")[4] {
            attempt.started_us = 1_400;
        }
    });
    assert_eq!(
        found,
        "id at smtp:one.test: attempts 1 and 2 were under way at one time"
    );
}

#[test]
fn a_recipient_that_ends_twice() {
    let found = with(|history| {
        journey(history, "id").push(attempt("smtp:one.test", 3, A, Outcome::Delivered));
        history.counts.delivered += 1;
        history.counts.accepted += 1;
    });
    assert!(
        found.contains("id for a@one.test goes on after its end"),
        "{found}"
    );
}

#[test]
fn a_dsn_too_few_or_too_many() {
    let found = with(|history| {
        history.arrivals.pop();
    });
    assert_eq!(found, "id failed for b@two.test, and no DSN says so");
    let found = with(|history| {
        let mut second = history.arrivals[1].clone();
        second.queue_id = "dsn2".to_owned();
        history.arrivals.push(second);
        let events = journey(history, "dsn").clone();
        history.journeys.insert("dsn2".to_owned(), events);
        journey(history, "id").insert(4, Event::Dsn("dsn2".to_owned()));
        history.counts.accepted += 1;
        history.counts.delivered += 1;
    });
    assert!(found.contains("and 2 DSNs say so"), "{found}");
    let found = with(|history| {
        history.arrivals[1].report.as_mut().unwrap().failed = vec![A.to_owned(), B.to_owned()];
    });
    assert!(
        found.contains("a DSN says that id failed for a@one.test"),
        "{found}"
    );
}

#[test]
fn counts_that_do_not_add_up() {
    let found = with(|history| history.counts.accepted += 1);
    assert!(found.contains("the counts do not add up"), "{found}");
    let found = with(|history| {
        history.counts.accepted += 1;
        history.counts.delivered += 1;
    });
    assert_eq!(
        found,
        "3 recipients are counted as delivered, and journeys tell of 2"
    );
}

#[test]
fn a_refusal() {
    let found = with(|history| history.refused.push("550 No".to_owned()));
    assert_eq!(found, "refused for good: 550 No");
    let found = with(|history| history.given_up.push("message 7".to_owned()));
    assert_eq!(found, "not accepted in the end: message 7");
}
