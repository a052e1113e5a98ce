//! The section `[queue.bodies]`.

use std::path::PathBuf;

use postrider_config::values::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bodies that are stored beside the queue and not within it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BodiesConfig {
    /// Where they are: "folder" (on a disk that every queue process reaches at the same path) or
    /// "s3" (Amazon S3 and what speaks its protocol; in builds with the Cargo feature `s3`).
    pub kind: BodiesKind,
    /// The folder. Empty stands for "bodies" in the data folder.
    pub dir: PathBuf,
    /// Messages up to this size are kept within the queue's own records; larger ones are where
    /// bodies are. What is above `edge.inline_body` is streamed there while it arrives and stays
    /// there, so that the smaller of the two counts. At most "16MiB".
    pub threshold: Size,
    /// The bucket, with `kind = "s3"`. Its keys come from the usual environment
    /// (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a web identity, or the machine's role), or
    /// from `credentials_file`.
    pub s3: S3Config,
}

impl Default for BodiesConfig {
    fn default() -> Self {
        Self {
            kind: BodiesKind::Folder,
            dir: PathBuf::new(),
            threshold: Size::kib(64),
            s3: S3Config::default(),
        }
    }
}

/// Where stored bodies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BodiesKind {
    /// A folder.
    Folder,
    /// A bucket of Amazon S3, or of what speaks its protocol.
    S3,
}

/// A bucket. Its keys are not kept here.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// The bucket's name.
    pub bucket: String,
    /// What the names of the objects begin with, e.g. "postrider/bodies". What is there and was
    /// not put there by this queue is left alone.
    pub prefix: String,
    /// The region, e.g. "eu-central-1". Empty: `AWS_REGION`, or "us-east-1".
    pub region: String,
    /// Where the server is, e.g. `https://s3.example.org`. Empty: Amazon's own in the region.
    pub endpoint: String,
    /// Speak plain HTTP to the endpoint if it says so. Only where nobody listens in between.
    pub allow_http: bool,
    /// The bucket's name is the first part of the host name, as Amazon wants it; otherwise it is
    /// the first part of the path, as most others do.
    pub virtual_hosted: bool,
    /// A file with the lines `aws_access_key_id = …` and `aws_secret_access_key = …` (and
    /// `aws_session_token = …`), as in ~/.aws/credentials. Instead of the environment.
    pub credentials_file: Option<PathBuf>,
}

impl BodiesConfig {
    /// What is wrong with the settings, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        require(
            self.threshold.0 <= 16 << 20,
            "queue.bodies.threshold must be at most 16MiB",
        );
        if self.kind == BodiesKind::S3 {
            let s3 = &self.s3;
            require(
                cfg!(feature = "s3"),
                "queue.bodies.kind: this program was built without S3; build it with the Cargo feature `s3`",
            );
            require(
                !s3.bucket.is_empty(),
                "queue.bodies.s3.bucket must be set with kind = \"s3\"",
            );
            require(
                s3.endpoint.is_empty() || s3.endpoint.contains("://"),
                "queue.bodies.s3.endpoint must be an address such as \"https://s3.example.org\"",
            );
            require(
                s3.allow_http || !s3.endpoint.starts_with("http://"),
                "queue.bodies.s3.endpoint is plain HTTP; set allow_http = true if nobody can listen in between",
            );
            require(
                !s3.endpoint.contains('@'),
                "queue.bodies.s3.endpoint holds a name or password; use credentials_file or the environment",
            );
        }
        problems
    }
}
