//! `postrider journey`: draws what happened to a message.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use futures_util::StreamExt;
use postrider_protocol::Code;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::journey_event::What;
use postrider_protocol::queue_v1::{FindRequest, Journey};

use super::queue::refusal;
use super::{OK, nothing};
use crate::cli::JourneyArgs;
use crate::diagram::text::{harmless, width};
use crate::journey::drawing::{self, Drawing};
use crate::journey::time;
use crate::json;
use crate::out;
use crate::table::aligned;
use crate::term::Style;

/// Draws one message's journey, or follows it.
///
/// # Errors
/// The server does not answer, or refuses.
pub async fn run(queue: Arc<dyn QueueAdmin>, args: JourneyArgs) -> anyhow::Result<ExitCode> {
    let mut style = Style::of_stdout();
    style.unicode &= !args.ascii;
    let by_address = args.query.is_none();
    let (sought, journeys) = match &args.query {
        Some(query) => (
            format!("{query:?}"),
            queue
                .journey(query.clone())
                .await
                .map_err(refusal)?
                .journeys,
        ),
        None => found(&*queue, &args).await?,
    };
    if journeys.is_empty() {
        eprintln!("No journey of {sought} is known.");
        return Ok(nothing());
    }
    if by_address && journeys.len() > 1 && !args.json {
        out::lines(&table(&journeys, style))?;
        return Ok(OK);
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

/// The journeys of messages from or to an address.
async fn found(
    queue: &dyn QueueAdmin,
    args: &JourneyArgs,
) -> anyhow::Result<(String, Vec<Journey>)> {
    let request = FindRequest {
        sender: args.sender.clone().unwrap_or_default(),
        recipient: args.recipient.clone().unwrap_or_default(),
        limit: args.limit,
    };
    let sought = match (&args.sender, &args.recipient) {
        (Some(sender), _) => format!("a message from {sender:?}"),
        (None, Some(recipient)) => format!("a message to {recipient:?}"),
        (None, None) => bail!("name a message, a sender or a recipient"),
    };
    let mut journeys = Vec::new();
    for id in queue.find(request).await.map_err(refusal)?.queue_ids {
        journeys.extend(queue.journey(id).await.map_err(refusal)?.journeys);
    }
    Ok((sought, journeys))
}

/// One line a message.
fn table(journeys: &[Journey], style: Style) -> Vec<String> {
    let heading = ["MESSAGE", "ACCEPTED (UTC)", "STATE", "FROM", "TO"];
    let mut rows = vec![heading.map(ToOwned::to_owned).to_vec()];
    for journey in journeys {
        let mut accepted = String::new();
        let mut to = String::new();
        for event in &journey.events {
            if let Some(What::Queued(queued)) = &event.what {
                accepted = time::instant(event.time_us).chars().take(16).collect();
                to = match queued.recipients.as_slice() {
                    [] => String::new(),
                    [only] => only.clone(),
                    [first, rest @ ..] => format!("{first} (+{})", rest.len()),
                };
            }
        }
        rows.push(vec![
            journey.queue_id.clone(),
            accepted,
            if journey.ended { "ended" } else { "queued" }.to_owned(),
            format!("<{}>", journey.reverse_path),
            to,
        ]);
    }
    let lines = aligned(&rows, style.unicode);
    if lines.iter().all(|line| width(line) <= style.width) {
        return lines;
    }
    // Too wide: from whom and to whom on a line below.
    let ways: Vec<String> = rows
        .iter_mut()
        .skip(1)
        .map(|row| row.split_off(3).join(" to "))
        .collect();
    rows[0].truncate(3);
    let mut table = aligned(&rows, style.unicode).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (line, way) in table.zip(ways) {
        lines.push(line);
        lines.push(format!("    {}", harmless(&way, style.unicode)));
    }
    lines
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
