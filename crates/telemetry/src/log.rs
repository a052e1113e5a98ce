//! Log lines: one event a line on standard error, for eyes or for collectors.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt, reload};

use crate::LogFormat;

/// Changes the filter of the running process.
pub(crate) type FilterHandle<S> = reload::Handle<EnvFilter, S>;

/// The filter of a `log` value.
///
/// # Errors
/// It is neither a level nor a list of levels by part.
pub(crate) fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder()
        .parse(directives)
        .with_context(|| format!("{directives:?} is not a level such as \"info\""))
}

/// The layer that writes, and the handle that changes what it writes.
///
/// # Errors
/// The filter is not understood.
pub(crate) fn layer<S>(
    format: LogFormat,
    directives: &str,
) -> anyhow::Result<(Box<dyn Layer<S> + Send + Sync>, FilterHandle<S>)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (filter, handle) = reload::Layer::new(filter(directives)?);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Human => layer
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    };
    Ok((layer, handle))
}

/// Which `tracing` spans are exported: ours only, because the exporter's own would feed on
/// themselves.
pub(crate) fn exported_spans() -> Targets {
    Targets::new().with_target("postrider", tracing::Level::INFO)
}
