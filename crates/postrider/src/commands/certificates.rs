//! `postrider certificates`: what mutual TLS between services needs, made in one go.

use std::process::ExitCode;

use postrider_tls::authority::{self, Made};

use super::OK;
use crate::cli::CertificatesArgs;
use crate::out;

/// Makes an authority and one certificate that all services share, unless they are there.
///
/// # Errors
/// The folder cannot be written to, or a name is no host name.
pub fn run(args: &CertificatesArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder.display();
    match authority::ensure(&args.folder, &args.names)? {
        Made::New => out::line(format_args!(
            "{folder} holds {}, {} and {} for {}.",
            authority::AUTHORITY,
            authority::CERTIFICATE,
            authority::KEY,
            args.names.join(", ")
        ))?,
        Made::Kept => out::line(format_args!("{folder} has its certificates; they stay."))?,
    }
    Ok(OK)
}
