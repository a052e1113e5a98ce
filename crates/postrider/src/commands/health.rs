//! `postrider health`: asks a running server, for container checks without curl.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{OK, nothing};
use crate::out;

/// A healthy server answers much sooner.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than any answer has.
const MOST: u64 = 64 * 1024;

/// Asks `/health/ready` and prints how it stands with each part.
///
/// # Errors
/// Nobody answers there.
pub async fn run(address: &str) -> anyhow::Result<ExitCode> {
    let answer = tokio::time::timeout(PATIENCE, ask(address))
        .await
        .unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}"))
        .with_context(|| format!("asking {address} for its health"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    out::line(body.trim_end())?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok(if status == "200" { OK } else { nothing() })
}

async fn ask(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
