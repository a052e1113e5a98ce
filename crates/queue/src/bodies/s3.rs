//! A bucket of Amazon S3, or of what speaks its protocol.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::config::S3Config;

/// Wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Wait for the answer to a request, or for the next piece of one.
const SILENCE: Duration = Duration::from_secs(30);
/// A request is tried again for so long.
const RETRY: Duration = Duration::from_secs(20);

/// Opens the bucket. Does not ask it anything yet.
pub(super) fn open(config: &S3Config) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT)
        // A body takes as long as the remote mail server takes to read it; what counts is silence.
        .with_timeout_disabled()
        .with_read_timeout(SILENCE)
        .with_allow_http(config.allow_http);
    let retry = RetryConfig {
        max_retries: 4,
        retry_timeout: RETRY,
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&config.bucket)
        .with_virtual_hosted_style_request(config.virtual_hosted)
        .with_client_options(client)
        .with_retry(retry);
    if !config.region.is_empty() {
        builder = builder.with_region(&config.region);
    }
    if !config.endpoint.is_empty() {
        builder = builder.with_endpoint(config.endpoint.trim_end_matches('/'));
    }
    if let Some(path) = &config.credentials_file {
        let keys = Keys::read(path)
            .with_context(|| format!("queue.bodies.s3.credentials_file: {}", path.display()))?;
        builder = builder
            .with_access_key_id(keys.id)
            .with_secret_access_key(keys.secret);
        if let Some(token) = keys.token {
            builder = builder.with_token(token);
        }
    }
    let bucket = builder.build().context("queue.bodies.s3")?;
    Ok(match config.prefix.trim_matches('/') {
        "" => Arc::new(bucket),
        prefix => Arc::new(PrefixStore::new(bucket, prefix)),
    })
}

/// What a file of credentials holds. Never printed.
struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Keys {
    fn read(path: &Path) -> anyhow::Result<Self> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Reads `name = value` lines. Of several sections the first counts.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let value = |wanted: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                let is_it = name.trim().eq_ignore_ascii_case(wanted);
                is_it.then(|| value.trim().to_owned())
            })
        };
        Ok(Self {
            id: value("aws_access_key_id").context("there is no aws_access_key_id")?,
            secret: value("aws_secret_access_key").context("there is no aws_secret_access_key")?,
            token: value("aws_session_token"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_and_never_told() {
        let keys =
            Keys::parse("[default]\naws_access_key_id=A\naws_secret_access_key = b=c \n").unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("A", "b=c"));
        assert!(keys.token.is_none());
        let missing = Keys::parse("aws_access_key_id = AKIA\nsecret = hush").err();
        let text = format!("{:#}", missing.unwrap());
        assert_eq!(text, "there is no aws_secret_access_key");
    }
}
