//! What the queue itself tells at the end: journeys and counts, over gRPC as operators get them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use postrider_protocol::api::QueueAdmin as _;
use postrider_protocol::grpc::{self, QueueClient, ServicesConfig};
use postrider_protocol::queue_v1::{
    self as wire, JourneyEvent, ListRequest, OutcomeKind, StatsResponse, journey_event::What,
};

use super::history::{Attempt, Counts, Event, Outcome};

/// A queue, asked by an operator.
pub struct Operator {
    queue: QueueClient,
}

impl Operator {
    /// Of the queue at this address.
    ///
    /// # Errors
    /// There is no such address.
    pub fn of(queue: SocketAddr) -> anyhow::Result<Self> {
        let config = ServicesConfig {
            queue: format!("http://{queue}"),
            ..ServicesConfig::default()
        };
        Ok(Self {
            queue: grpc::queue(&config)?,
        })
    }

    /// Waits until nothing is open. Gives the counts as they are then, or at the end of the time.
    ///
    /// # Errors
    /// The queue does not answer at all.
    pub async fn drained(&self, limit: Duration) -> anyhow::Result<Counts> {
        let end = Instant::now() + limit;
        loop {
            let counts = match self.queue.stats().await {
                Ok(stats) => Ok(counts(&stats)),
                Err(error) => Err(error),
            };
            match counts {
                Ok(counts) if counts.open == 0 => return Ok(counts),
                Ok(counts) if Instant::now() > end => return Ok(counts),
                Err(error) if Instant::now() > end => return Err(error).context("the counts"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Some of the deliveries that have not ended, in words.
    pub async fn open(&self) -> Vec<String> {
        let request = ListRequest {
            limit: 10,
            ..ListRequest::default()
        };
        match self.queue.list(request).await {
            Ok(page) => page
                .deliveries
                .iter()
                .map(|one| {
                    format!(
                        "{} to {} ({:?}, {} attempts, at {:?})",
                        one.delivery_id,
                        one.destination,
                        one.state(),
                        one.attempts,
                        one.worker
                    )
                })
                .collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    /// The journeys of these messages and of the DSNs that they speak of.
    ///
    /// # Errors
    /// The queue does not answer.
    pub async fn journeys(
        &self,
        ids: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<BTreeMap<String, Vec<Event>>> {
        let mut wanted: BTreeSet<String> = ids.into_iter().collect();
        let mut journeys = BTreeMap::new();
        while let Some(id) = wanted.pop_first() {
            let response = self.queue.journey(id.clone()).await?;
            let Some(journey) = response.journeys.into_iter().next() else {
                continue;
            };
            let events: Vec<Event> = journey.events.iter().map(event).collect();
            for event in &events {
                if let Event::Dsn(dsn) = event
                    && !journeys.contains_key(dsn)
                {
                    wanted.insert(dsn.clone());
                }
            }
            journeys.insert(id, events);
        }
        Ok(journeys)
    }
}

fn counts(stats: &StatsResponse) -> Counts {
    Counts {
        accepted: stats.accepted,
        delivered: stats.delivered,
        failed: stats.failed,
        removed: stats.removed,
        open: stats.open,
        stale: stats.stale_completions,
        unknown: stats.unknown_outcomes,
    }
}

fn event(event: &JourneyEvent) -> Event {
    match &event.what {
        Some(What::Queued(_)) => Event::Queued,
        Some(What::Attempt(attempt)) => Event::Attempt(read_attempt(attempt)),
        Some(What::Notice(notice)) if !notice.dsn_queue_id.is_empty() => {
            Event::Dsn(notice.dsn_queue_id.clone())
        }
        Some(What::Notice(notice)) if notice.text.contains("outcome unknown") => Event::Lapsed {
            destination: notice
                .text
                .split_whitespace()
                .map(|word| word.trim_end_matches([':', ',', '.']))
                .find(|word| word.starts_with("smtp:") || word.starts_with("mailbox:"))
                .map(str::to_owned),
        },
        Some(What::Notice(notice)) => Event::Other(notice.text.clone()),
        Some(What::Received(_)) => Event::Other("received".to_owned()),
        None => Event::Other("nothing".to_owned()),
    }
}

fn read_attempt(attempt: &wire::Attempt) -> Attempt {
    Attempt {
        destination: attempt.destination.clone(),
        number: attempt.number,
        started_us: attempt.started_us,
        ended_us: attempt.ended_us,
        outcomes: attempt
            .outcomes
            .iter()
            .map(|outcome| {
                let what = match outcome.kind() {
                    OutcomeKind::Delivered => Outcome::Delivered,
                    OutcomeKind::Failed => Outcome::Failed,
                    OutcomeKind::Unknown => Outcome::Unknown,
                    OutcomeKind::Deferred | OutcomeKind::Unspecified => Outcome::Deferred,
                };
                (outcome.address.clone(), what)
            })
            .collect(),
    }
}
