//! Suspending, resuming, and what is suspended.

use std::process::ExitCode;

use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::{ResumeRequest, SuspendRequest, Suspension};
use serde_json::json;

use super::{filter, refusal, tables};
use crate::cli::{ByArgs, SuspendArgs};
use crate::commands::{OK, nothing};
use crate::json;
use crate::out;
use crate::term::Style;

pub(super) async fn suspend(queue: &dyn QueueAdmin, args: SuspendArgs) -> anyhow::Result<ExitCode> {
    let to = args.destination.as_deref();
    let request = SuspendRequest {
        suspension: Some(Suspension {
            destination: to.map_or(Ok(String::new()), filter::to)?,
            sender: args.sender.unwrap_or_default(),
            tenant: args.tenant.unwrap_or_default(),
            until_us: filter::end(&args.end)?,
            operator: args.by.operator,
            reason: args.by.reason,
            ..Suspension::default()
        }),
        preview: args.preview,
    };
    let response = queue.suspend(request).await.map_err(refusal)?;
    if args.json {
        out::line(json::suspended(&response, args.preview))?;
    } else {
        out::lines(&tables::suspended(&response, args.preview))?;
    }
    Ok(OK)
}

pub(super) async fn resume(
    queue: &dyn QueueAdmin,
    ids: Vec<String>,
    by: ByArgs,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let mut missing = false;
    for id in ids {
        let request = ResumeRequest {
            id: id.clone(),
            operator: by.operator.clone(),
            reason: by.reason.clone(),
        };
        let resumed = queue.resume(request).await.map_err(refusal)?.resumed;
        missing |= !resumed;
        match (as_json, resumed) {
            (true, _) => out::line(json!({ "id": id, "resumed": resumed }))?,
            (false, true) => out::line(format_args!("{id} is resumed."))?,
            (false, false) => eprintln!("There is no suspension {id}."),
        }
    }
    Ok(if missing { nothing() } else { OK })
}

pub(super) async fn list(queue: &dyn QueueAdmin, as_json: bool) -> anyhow::Result<ExitCode> {
    let suspensions = queue.suspensions().await.map_err(refusal)?.suspensions;
    if as_json {
        for suspension in &suspensions {
            out::line(json::suspension(suspension))?;
        }
    } else {
        out::lines(&tables::suspensions(&suspensions, Style::of_stdout()))?;
    }
    Ok(OK)
}
