//! What operators ask.

pub(crate) mod check;
mod follow;
mod suspensions;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use postrider_protocol::api::{self, QueueAdmin};
use postrider_protocol::queue_v1::{
    ActRecord, ActRequest, ActResponse, ActsRequest, ActsResponse, DeliveryStatus, FindRequest,
    FindResponse, JourneyEvent, JourneyResponse, ListRequest, ListResponse, ResumeRequest,
    ResumeResponse, ShowResponse, StatsResponse, SuspendRequest, SuspendResponse,
    SuspensionsResponse, UndoRequest,
};
use postrider_protocol::{DeliveryId, QueueId, Status};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use self::check::{text, valid};
use self::follow::{follow, ids};
use crate::holder::worker_of;
use crate::service::QueueService;
use crate::store::{Find, StoreError};

/// A page's size if none is asked for, and the most.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;
/// Messages that are found if no number is asked for, and the most.
const FOUND: u32 = 20;
const MOST_FOUND: u32 = 100;

/// Operators know workers, and nothing of their conversations.
fn name_worker(delivery: &mut DeliveryStatus) {
    let name = worker_of(&delivery.worker).len();
    delivery.worker.truncate(name);
}

#[async_trait]
impl QueueAdmin for QueueService {
    async fn list(&self, request: ListRequest) -> api::Result<ListResponse> {
        let filter = valid(request.filter.unwrap_or_default())?;
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
        let mut deliveries = self
            .store
            .list(&filter, after, limit)
            .await
            .map_err(status)?;
        deliveries.iter_mut().for_each(name_worker);
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
        let missing = "no such message is queued; its journey may be known";
        let shown = self.store.show(id).await.map_err(status)?;
        let mut shown = shown.ok_or_else(|| Status::not_found(missing))?;
        shown.deliveries.iter_mut().for_each(name_worker);
        Ok(shown)
    }

    async fn act(&self, request: ActRequest) -> api::Result<ActResponse> {
        self.acts.act(request).await
    }

    async fn acts(&self, request: ActsRequest) -> api::Result<ActsResponse> {
        let limit = match request.limit {
            0 => PAGE,
            limit => limit.min(LARGEST_PAGE),
        } as usize;
        let acts = self.acts.list(limit).await?;
        Ok(ActsResponse { acts })
    }

    async fn undo(&self, request: UndoRequest) -> api::Result<ActRecord> {
        self.acts.undo(request).await
    }

    async fn suspend(&self, request: SuspendRequest) -> api::Result<SuspendResponse> {
        suspensions::suspend(&*self.store, &self.acts, request).await
    }

    async fn resume(&self, request: ResumeRequest) -> api::Result<ResumeResponse> {
        suspensions::resume(&*self.store, &self.acts, request).await
    }

    async fn suspensions(&self) -> api::Result<SuspensionsResponse> {
        let suspensions = self.store.suspensions().await.map_err(status)?;
        Ok(SuspensionsResponse { suspensions })
    }

    async fn find(&self, request: FindRequest) -> api::Result<FindResponse> {
        let what = match (request.sender.as_str(), request.recipient.as_str()) {
            (sender, "") if !sender.is_empty() => {
                text("the sender", sender)?;
                Find::Sender(if sender == "<>" { "" } else { sender }.to_owned())
            }
            ("", recipient) if !recipient.is_empty() => {
                text("the recipient", recipient)?;
                Find::Recipient(recipient.to_owned())
            }
            _ => {
                return Err(Status::invalid_argument(
                    "look for one of sender and recipient",
                ));
            }
        };
        let limit = match request.limit {
            0 => FOUND,
            limit => limit.min(MOST_FOUND),
        } as usize;
        let found = self.store.find(&what, limit).await.map_err(status)?;
        Ok(FindResponse {
            queue_ids: found.iter().map(ToString::to_string).collect(),
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

/// A store's error for whoever asked.
pub(crate) fn status(error: StoreError) -> Status {
    match error {
        StoreError::Unavailable(_) | StoreError::Unconfirmed(_) => {
            Status::unavailable(error.to_string())
        }
        StoreError::Invalid(_) => Status::invalid_argument(error.to_string()),
        StoreError::Damaged(_) => Status::data_loss(error.to_string()),
    }
}
