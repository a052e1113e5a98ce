//! Acts on deliveries: done, followed, listed, undone.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::{
    ActRecord, ActRequest, ActsRequest, Filter, UndoRequest, act_request::Act,
};

use super::{filter, refusal, tables};
use crate::cli::{ActArgs, ByArgs, HoldArgs, RerouteArgs};
use crate::commands::{OK, nothing};
use crate::json;
use crate::out;
use crate::term::Style;

/// Queue ids that the queue takes in one act.
const IDS: usize = 500;
/// Between looks at an act that takes longer: where somebody watches, and elsewhere.
const WATCHED: Duration = Duration::from_millis(200);
const UNWATCHED: Duration = Duration::from_secs(1);
/// Acts among which one that was just begun is looked for.
const NEWEST: u32 = 1000;

pub(super) async fn hold(queue: &dyn QueueAdmin, args: HoldArgs) -> anyhow::Result<ExitCode> {
    let until_us = filter::end(&args.end)?;
    let request = ActRequest {
        until_us,
        ..request(Act::Hold, &args.act)?
    };
    act(queue, request, args.act).await
}

pub(super) async fn reroute(queue: &dyn QueueAdmin, args: RerouteArgs) -> anyhow::Result<ExitCode> {
    let request = ActRequest {
        destination: filter::to(&args.to)?,
        ..request(Act::Reroute, &args.act)?
    };
    act(queue, request, args.act).await
}

pub(super) async fn simple(
    queue: &dyn QueueAdmin,
    kind: Act,
    args: ActArgs,
) -> anyhow::Result<ExitCode> {
    act(queue, request(kind, &args)?, args).await
}

fn request(act: Act, args: &ActArgs) -> anyhow::Result<ActRequest> {
    let filter = filter::filter(&args.filter)?;
    if filter == Filter::default() && !args.all {
        bail!("this would touch every delivery: give queue ids or a filter, or say --all");
    }
    Ok(ActRequest {
        act: act.into(),
        filter: Some(filter),
        preview: args.preview,
        operator: args.by.operator.clone(),
        reason: args.by.reason.clone(),
        ..ActRequest::default()
    })
}

async fn act(
    queue: &dyn QueueAdmin,
    request: ActRequest,
    args: ActArgs,
) -> anyhow::Result<ExitCode> {
    let mut sum = tables::Acted::default();
    for request in parts(request.clone()) {
        let response = queue.act(request).await.map_err(refusal)?;
        let mut acted = tables::Acted::from(response);
        if !acted.done && !args.preview && !args.background {
            let record = follow(queue, &acted.act_ids, args.json).await?;
            acted = acted.until(record);
        }
        sum.add(acted);
    }
    if args.json {
        out::line(json::act(&sum, args.preview))?;
    } else {
        out::lines(&tables::act(&request, &sum, Style::of_stdout()))?;
    }
    Ok(if sum.matched == 0 { nothing() } else { OK })
}

/// One act for so many queue ids as one may have.
fn parts(request: ActRequest) -> Vec<ActRequest> {
    let filter = request.filter.clone().unwrap_or_default();
    if filter.queue_ids.len() <= IDS {
        return vec![request];
    }
    let part = |ids: &[String]| ActRequest {
        filter: Some(Filter {
            queue_ids: ids.to_vec(),
            ..filter.clone()
        }),
        ..request.clone()
    };
    filter.queue_ids.chunks(IDS).map(part).collect()
}

/// Waits for the end of an act that takes longer, and shows meanwhile how far it is.
async fn follow(
    queue: &dyn QueueAdmin,
    act_ids: &[String],
    as_json: bool,
) -> anyhow::Result<Option<ActRecord>> {
    let mut terminal = std::io::stderr();
    let watched = terminal.is_terminal() && !as_json;
    let Some(act_id) = act_ids.first() else {
        return Ok(None);
    };
    if watched {
        eprintln!("It goes on by itself; `postrider queue undo {act_id}` stops it.");
    }
    loop {
        let request = ActsRequest { limit: NEWEST };
        let acts = queue.acts(request).await.map_err(refusal)?.acts;
        let found = acts.into_iter().find(|act| act.act_id == *act_id);
        if watched {
            let line = found.as_ref().map_or_else(String::new, tables::progress);
            // Nothing depends on its being seen.
            write!(terminal, "\r\x1b[K{line}").ok();
            terminal.flush().ok();
        }
        let runs = |act: &ActRecord| matches!(act.state(), State::Running | State::Undoing);
        if !found.as_ref().is_some_and(runs) {
            if watched {
                write!(terminal, "\r\x1b[K").ok();
            }
            return Ok(found);
        }
        tokio::time::sleep(if watched { WATCHED } else { UNWATCHED }).await;
    }
}

pub(super) async fn list(
    queue: &dyn QueueAdmin,
    limit: u32,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let acts = queue
        .acts(ActsRequest { limit })
        .await
        .map_err(refusal)?
        .acts;
    if as_json {
        for act in &acts {
            out::line(json::act_record(act))?;
        }
    } else {
        out::lines(&tables::acts(&acts, Style::of_stdout()))?;
    }
    Ok(OK)
}

pub(super) async fn undo(
    queue: &dyn QueueAdmin,
    act_id: String,
    by: ByArgs,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let request = UndoRequest {
        act_id: act_id.clone(),
        operator: by.operator,
        reason: by.reason,
    };
    let mut record = queue.undo(request).await.map_err(refusal)?;
    if record.state() == State::Undoing {
        record = follow(queue, &[act_id], as_json).await?.unwrap_or(record);
    }
    if as_json {
        out::line(json::act_record(&record))?;
    } else {
        out::lines(&tables::acts(&[record], Style::of_stdout()))?;
    }
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ids_are_several_acts() {
        let with = |ids: usize| ActRequest {
            act: Act::Retry as i32,
            filter: Some(Filter {
                queue_ids: (0..ids).map(|n| n.to_string()).collect(),
                tenant: "t".to_owned(),
                ..Filter::default()
            }),
            ..ActRequest::default()
        };
        assert_eq!(parts(with(0)), [with(0)]);
        assert_eq!(parts(with(500)).len(), 1);
        let three = parts(with(1001));
        let filters: Vec<Filter> = three.into_iter().filter_map(|part| part.filter).collect();
        let sizes: Vec<usize> = filters
            .iter()
            .map(|filter| filter.queue_ids.len())
            .collect();
        assert_eq!(sizes, [500, 500, 1]);
        assert!(filters.iter().all(|filter| filter.tenant == "t"));
    }
}
