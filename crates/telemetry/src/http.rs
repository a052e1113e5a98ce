//! `/metrics`, `/health/live`, `/health/ready`.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::buckets::Rendering;
use crate::health::{self, Registry};
use crate::process;

#[derive(Clone)]
struct Shown {
    metrics: Rendering,
    health: Registry,
}

/// Takes the address now, so that a taken port is told at the start.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("listening on {address} for metrics and health"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the task is aborted.
pub(crate) async fn serve(listener: TcpListener, metrics: Rendering, health: Registry) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(show_readiness))
        .with_state(Shown { metrics, health });
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "metrics and health are no longer served");
    }
}

async fn show_metrics(State(shown): State<Shown>) -> impl IntoResponse {
    shown.metrics.run_upkeep();
    let mut text = shown.metrics.render();
    process::render(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn show_readiness(State(shown): State<Shown>) -> impl IntoResponse {
    let text: String = shown
        .health
        .states()
        .into_iter()
        .map(|(name, state)| match state {
            health::State::Ready => format!("{name}: ready\n"),
            health::State::NotReady(why) => format!("{name}: not ready: {why}\n"),
        })
        .collect();
    if shown.health.is_ready() {
        (StatusCode::OK, text)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}
