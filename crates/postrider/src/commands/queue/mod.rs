//! `postrider queue …`: lists deliveries, shows messages, acts on them, counts.

mod acts;
mod filter;
mod suspensions;
mod tables;

use std::process::ExitCode;
use std::sync::Arc;

use postrider_protocol::Code;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::{ListRequest, act_request::Act};

pub use self::tables::Acted;
use super::{OK, nothing};
use crate::cli::{FilterArgs, QueueCommand};
use crate::json;
use crate::out;
use crate::term::Style;

/// Deliveries asked for in one call.
const PAGE: u32 = 500;

/// Carries out a command on a running server's queue.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(queue: Arc<dyn QueueAdmin>, command: QueueCommand) -> anyhow::Result<ExitCode> {
    match command {
        QueueCommand::List {
            filter,
            limit,
            json,
            ..
        } => list(&*queue, &filter, limit, json).await,
        QueueCommand::Show { queue_id, json, .. } => show(&*queue, queue_id, json).await,
        QueueCommand::Retry(args) => acts::simple(&*queue, Act::Retry, args).await,
        QueueCommand::Hold(args) => acts::hold(&*queue, args).await,
        QueueCommand::Release(args) => acts::simple(&*queue, Act::Release, args).await,
        QueueCommand::Remove(args) => acts::simple(&*queue, Act::Remove, args).await,
        QueueCommand::Bounce(args) => acts::simple(&*queue, Act::Bounce, args).await,
        QueueCommand::Reroute(args) => acts::reroute(&*queue, args).await,
        QueueCommand::Acts { limit, json, .. } => acts::list(&*queue, limit, json).await,
        QueueCommand::Undo {
            act_id, by, json, ..
        } => acts::undo(&*queue, act_id, by, json).await,
        QueueCommand::Suspend(args) => suspensions::suspend(&*queue, args).await,
        QueueCommand::Resume { ids, by, json, .. } => {
            suspensions::resume(&*queue, ids, by, json).await
        }
        QueueCommand::Suspensions { json, .. } => suspensions::list(&*queue, json).await,
        QueueCommand::Stats { json, .. } => stats(&*queue, json).await,
    }
}

async fn list(
    queue: &dyn QueueAdmin,
    filter: &FilterArgs,
    limit: u64,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let filter = filter::filter(filter)?;
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut page_token = String::new();
    let mut shown = Vec::new();
    loop {
        let request = ListRequest {
            filter: Some(filter.clone()),
            limit: u32::try_from(left).unwrap_or(PAGE).min(PAGE),
            page_token,
        };
        let page = queue.list(request).await.map_err(refusal)?;
        left = left.saturating_sub(page.deliveries.len() as u64);
        if as_json {
            for delivery in &page.deliveries {
                out::line(json::delivery(delivery))?;
            }
        } else {
            shown.extend(page.deliveries);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() || left == 0 {
            break;
        }
    }
    if !as_json {
        let style = Style::of_stdout();
        out::lines(&tables::deliveries(&shown, style))?;
        if !page_token.is_empty() {
            eprintln!("There are more; --limit 0 lists all.");
        }
    }
    Ok(OK)
}

async fn show(queue: &dyn QueueAdmin, queue_id: String, as_json: bool) -> anyhow::Result<ExitCode> {
    let shown = match queue.show(queue_id.clone()).await {
        Ok(shown) => shown,
        Err(status) if status.code() == Code::NotFound => {
            eprintln!(
                "{queue_id} is not in the queue. `postrider journey {queue_id}` tells what became of it."
            );
            return Ok(nothing());
        }
        Err(status) => return Err(refusal(status)),
    };
    if as_json {
        out::line(json::message(&shown))?;
    } else {
        out::lines(&tables::message(&shown, Style::of_stdout()))?;
    }
    Ok(OK)
}

async fn stats(queue: &dyn QueueAdmin, as_json: bool) -> anyhow::Result<ExitCode> {
    let stats = queue.stats().await.map_err(refusal)?;
    if as_json {
        out::line(json::stats(&stats))?;
    } else {
        out::lines(&tables::stats(&stats, Style::of_stdout()))?;
    }
    Ok(OK)
}

/// An error of a call in words for people.
pub fn refusal(status: postrider_protocol::Status) -> anyhow::Error {
    match status.code() {
        Code::Unavailable => anyhow::anyhow!("the server does not answer: {}", status.message()),
        code => anyhow::anyhow!("the server refused: {} ({code:?})", status.message()),
    }
}
