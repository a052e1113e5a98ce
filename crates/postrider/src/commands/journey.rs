//! `postrider journey`: draws what happened to a message.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::StreamExt;
use postrider_protocol::Code;
use postrider_protocol::api::QueueAdmin;

use super::queue::refusal;
use super::{OK, nothing};
use crate::cli::JourneyArgs;
use crate::journey::drawing::{self, Drawing};
use crate::json;
use crate::out;
use crate::term::Style;

/// Draws one message's journey, or follows it.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(queue: Arc<dyn QueueAdmin>, args: JourneyArgs) -> anyhow::Result<ExitCode> {
    let mut style = Style::of_stdout();
    style.unicode &= !args.ascii;
    let journeys = queue
        .journey(args.query.clone())
        .await
        .map_err(refusal)?
        .journeys;
    if journeys.is_empty() {
        eprintln!("No journey of {:?} is known.", args.query);
        return Ok(nothing());
    }
    if args.follow {
        let queue_id = journeys[0].queue_id.clone();
        let mut drawing = Drawing::new(style);
        if !args.json {
            out::lines(&drawing.title(&journeys[0]))?;
        }
        follow(&*queue, queue_id, args.json, &mut drawing).await?;
        return Ok(OK);
    }
    for (number, journey) in journeys.iter().enumerate() {
        if args.json {
            out::line(json::journey(journey))?;
            continue;
        }
        if number > 0 {
            out::line("")?;
        }
        out::lines(&drawing::draw(journey, style))?;
    }
    Ok(OK)
}

async fn follow(
    queue: &dyn QueueAdmin,
    queue_id: String,
    as_json: bool,
    drawing: &mut Drawing,
) -> anyhow::Result<()> {
    let mut events = queue.follow_journey(queue_id).await.map_err(refusal)?;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) if as_json => out::line(json::event(&event))?,
            Ok(event) => out::lines(&drawing.event(&event))?,
            Err(status) if status.code() == Code::NotFound => break,
            Err(status) => return Err(refusal(status)),
        }
    }
    if !as_json {
        out::lines(&drawing.end(true))?;
    }
    Ok(())
}
