//! What operators ask.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use postrider_protocol::api::{self, QueueAdmin};
use postrider_protocol::queue_v1::act_request::Act as WireAct;
use postrider_protocol::queue_v1::{
    ActRequest, ActResponse, Filter, Journey, JourneyEvent, JourneyResponse, ListRequest,
    ListResponse, ShowResponse, StatsResponse,
};
use postrider_protocol::{DeliveryId, Destination, QueueId, Status};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::service::QueueService;
use crate::store::{Act, By, Store, StoreError, Wake};

/// A page's size if none is asked for, and the most.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;
/// Ids in a filter.
const MOST_IDS: usize = 10_000;
/// Journeys that a Message-ID can bring.
const JOURNEYS: usize = 20;
/// RFC 5322 section 2.1.1: no Message-ID is longer than a line may be.
const LONGEST_QUERY: usize = 1000;
const LONGEST_TEXT: usize = 1024;

#[async_trait]
impl QueueAdmin for QueueService {
    async fn list(&self, request: ListRequest) -> api::Result<ListResponse> {
        let filter = checked(request.filter.unwrap_or_default())?;
        let limit = match request.limit {
            0 => PAGE,
            limit => limit.min(LARGEST_PAGE),
        } as usize;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse::<DeliveryId>()
                    .map_err(|_| Status::invalid_argument("this is not a page's token"))?,
            ),
        };
        let deliveries = self
            .store
            .list(&filter, after, limit)
            .await
            .map_err(status)?;
        let next_page_token = match deliveries.len() == limit {
            true => deliveries
                .last()
                .map_or_else(String::new, |last| last.delivery_id.clone()),
            false => String::new(),
        };
        Ok(ListResponse {
            deliveries,
            next_page_token,
        })
    }

    async fn show(&self, queue_id: String) -> api::Result<ShowResponse> {
        let id: QueueId = queue_id
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{queue_id:?}: {error}")))?;
        self.store
            .show(id)
            .await
            .map_err(status)?
            .ok_or_else(|| Status::not_found("no such message is queued; its journey may be known"))
    }

    async fn act(&self, request: ActRequest) -> api::Result<ActResponse> {
        let act = match request.act() {
            WireAct::Retry => Act::Retry,
            WireAct::Hold => Act::Hold,
            WireAct::Release => Act::Release,
            WireAct::Remove => Act::Remove,
            WireAct::Bounce => Act::Bounce,
            WireAct::Unspecified => return Err(Status::invalid_argument("no such act")),
        };
        let filter = checked(request.filter.unwrap_or_default())?;
        for text in [&request.operator, &request.reason] {
            if text.len() > LONGEST_TEXT {
                return Err(Status::invalid_argument("operator or reason is too long"));
            }
        }
        let by = By {
            operator: one_line(&request.operator),
            reason: one_line(&request.reason),
        };
        let acted = self
            .store
            .act(act, &filter, &by, request.preview)
            .await
            .map_err(status)?;
        Ok(ActResponse {
            matched: acted.matched,
            changed: acted.changed,
            sample: acted.sample.iter().map(ToString::to_string).collect(),
        })
    }

    async fn journey(&self, query: String) -> api::Result<JourneyResponse> {
        let mut journeys = Vec::new();
        for id in ids(&*self.store, &query).await? {
            journeys.extend(self.store.journey(id).await.map_err(status)?);
        }
        Ok(JourneyResponse { journeys })
    }

    async fn follow_journey(
        &self,
        query: String,
    ) -> api::Result<BoxStream<'static, api::Result<JourneyEvent>>> {
        let Some(id) = ids(&*self.store, &query).await?.first().copied() else {
            return Err(Status::not_found("nothing is known of such a message"));
        };
        let (events, stream) = mpsc::channel(16);
        tokio::spawn(follow(self.store.clone(), id, events));
        Ok(ReceiverStream::new(stream).boxed())
    }

    async fn stats(&self) -> api::Result<StatsResponse> {
        self.store.stats().await.map_err(status)
    }
}

/// Sends what happened and then what happens, until the message has ended or nobody listens.
async fn follow(
    store: Arc<dyn Store>,
    id: QueueId,
    events: mpsc::Sender<api::Result<JourneyEvent>>,
) {
    // Listen first, so that nothing falls in between.
    let mut wakes = store.watch();
    let mut told = 0;
    loop {
        let journey = match store.journey(id).await {
            Ok(Some(journey)) => journey,
            Ok(None) => Journey {
                ended: true,
                ..Journey::default()
            },
            Err(error) => {
                events.send(Err(status(error))).await.ok();
                return;
            }
        };
        for event in journey.events.into_iter().skip(told) {
            told += 1;
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if journey.ended {
            return;
        }
        loop {
            let wake = tokio::select! {
                wake = wakes.recv() => wake,
                () = events.closed() => return,
            };
            match wake {
                Ok(Wake::Journey(changed)) if changed == id => break,
                Ok(Wake::Everything) | Err(RecvError::Lagged(_)) => break,
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// The messages that a query names: by queue id, or by Message-ID with or without brackets.
async fn ids(store: &dyn Store, query: &str) -> api::Result<Vec<QueueId>> {
    let query = query.trim();
    if query.is_empty() || query.len() > LONGEST_QUERY {
        return Err(Status::invalid_argument(
            "neither a queue id nor a Message-ID",
        ));
    }
    if let Ok(id) = query.parse() {
        return Ok(vec![id]);
    }
    let message_id = query
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(query);
    store.find(message_id, JOURNEYS).await.map_err(status)
}

fn checked(filter: Filter) -> api::Result<Filter> {
    if filter.queue_ids.len() > MOST_IDS {
        return Err(Status::invalid_argument("too many ids in the filter"));
    }
    for id in &filter.queue_ids {
        id.parse::<QueueId>()
            .map_err(|error| Status::invalid_argument(format!("{id:?}: {error}")))?;
    }
    if !filter.destination.is_empty() {
        filter.destination.parse::<Destination>().map_err(|error| {
            Status::invalid_argument(format!("{:?}: {error}", filter.destination))
        })?;
    }
    if filter.sender.len() > LONGEST_TEXT || filter.recipient.len() > LONGEST_TEXT {
        return Err(Status::invalid_argument(
            "an address in the filter is too long",
        ));
    }
    Ok(filter)
}

/// What an operator wrote goes into journeys, logs and onto terminals: without control characters.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn status(error: StoreError) -> Status {
    match error {
        StoreError::Unavailable(_) => Status::unavailable(error.to_string()),
        StoreError::Invalid(_) => Status::invalid_argument(error.to_string()),
        StoreError::Damaged(_) => Status::data_loss(error.to_string()),
    }
}
