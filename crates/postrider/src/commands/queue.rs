//! `postrider queue …`: lists deliveries, shows messages, acts on them, counts.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::{ActRequest, Filter, ListRequest, act_request::Act};
use postrider_protocol::{Code, Destination, destination};

use super::{OK, nothing, queue_tables};
use crate::cli::{ActArgs, FilterArgs, QueueCommand};
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
        QueueCommand::Retry(args) => act(&*queue, Act::Retry, args).await,
        QueueCommand::Hold(args) => act(&*queue, Act::Hold, args).await,
        QueueCommand::Release(args) => act(&*queue, Act::Release, args).await,
        QueueCommand::Remove(args) => act(&*queue, Act::Remove, args).await,
        QueueCommand::Bounce(args) => act(&*queue, Act::Bounce, args).await,
        QueueCommand::Stats { json, .. } => stats(&*queue, json).await,
    }
}

async fn list(
    queue: &dyn QueueAdmin,
    filter: &FilterArgs,
    limit: u64,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let filter = to_filter(filter)?;
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
        out::lines(&queue_tables::deliveries(&shown, style))?;
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
        out::lines(&queue_tables::message(&shown, Style::of_stdout()))?;
    }
    Ok(OK)
}

async fn act(queue: &dyn QueueAdmin, act: Act, args: ActArgs) -> anyhow::Result<ExitCode> {
    let filter = to_filter(&args.filter)?;
    if filter == Filter::default() && !args.all {
        bail!("this would touch every delivery: give queue ids or a filter, or say --all");
    }
    let request = ActRequest {
        act: act.into(),
        filter: Some(filter),
        preview: args.preview,
        operator: args.operator,
        reason: args.reason,
    };
    let response = queue.act(request).await.map_err(refusal)?;
    if args.json {
        out::line(json::act(&response, args.preview))?;
    } else {
        out::lines(&queue_tables::act(act, &response, args.preview))?;
    }
    Ok(if response.matched == 0 { nothing() } else { OK })
}

async fn stats(queue: &dyn QueueAdmin, as_json: bool) -> anyhow::Result<ExitCode> {
    let stats = queue.stats().await.map_err(refusal)?;
    if as_json {
        out::line(json::stats(&stats))?;
    } else {
        out::lines(&queue_tables::stats(&stats, Style::of_stdout()))?;
    }
    Ok(OK)
}

fn to_filter(args: &FilterArgs) -> anyhow::Result<Filter> {
    let destination = match args.destination.as_deref() {
        None => String::new(),
        Some(text) if text.contains(':') && !text.starts_with('[') => text
            .parse::<Destination>()
            .with_context(|| format!("{text:?}"))?
            .to_string(),
        Some(domain) => Destination::new(destination::SMTP, domain).to_string(),
    };
    Ok(Filter {
        queue_ids: args.queue_ids.clone(),
        destination,
        sender: args.sender.clone().unwrap_or_default(),
        recipient: args.recipient.clone().unwrap_or_default(),
        held: args.held,
    })
}

/// An error of a call in words for people.
pub fn refusal(status: postrider_protocol::Status) -> anyhow::Error {
    match status.code() {
        Code::Unavailable => anyhow::anyhow!("the server does not answer: {}", status.message()),
        code => anyhow::anyhow!("the server refused: {} ({code:?})", status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_domain_means_smtp() {
        let with = |destination: &str| FilterArgs {
            destination: Some(destination.to_owned()),
            ..FilterArgs::default()
        };
        let destination = |text: &str| to_filter(&with(text)).map(|filter| filter.destination);
        assert_eq!(destination("Example.org").unwrap(), "smtp:example.org");
        assert_eq!(destination("mailbox:a.test").unwrap(), "mailbox:a.test");
        assert_eq!(destination("[192.0.2.1]").unwrap(), "smtp:[192.0.2.1]");
        assert!(destination("smtp:").is_err());
    }
}
