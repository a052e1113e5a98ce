//! The certificate of a server that was given none.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;

/// Years for which it holds. Nobody verifies it, so its end would only be a trap.
const YEARS: i32 = 20;

/// The file of the self-signed certificate and its key below `data_dir`.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("tls").join("self-signed.pem")
}

/// Makes sure that there is a self-signed certificate for `hostname` in `data_dir` and returns its
/// file, which holds certificate and key and is readable by its owner only. One that is there is
/// kept, so that clients that have pinned it stay content, unless the hostname has changed.
///
/// # Errors
/// The folder cannot be written to.
pub fn ensure(hostname: &str, data_dir: &Path) -> anyhow::Result<PathBuf> {
    let path = path(data_dir);
    if is_for(&path, hostname) {
        return Ok(path);
    }
    let pem = generate(hostname)?;
    write(&path, &pem).with_context(|| format!("keeping a self-signed certificate in {path:?}"))?;
    Ok(path)
}

/// Whether the file holds a certificate for this name.
fn is_for(path: &Path, hostname: &str) -> bool {
    let Ok(certificate) = rustls::pki_types::CertificateDer::from_pem_file(path) else {
        return false;
    };
    let (Ok(certificate), Ok(name)) = (
        ParsedCertificate::try_from(&certificate),
        ServerName::try_from(hostname),
    ) else {
        return false;
    };
    rustls::client::verify_server_name(&certificate, &name).is_ok()
}

/// Certificate and key, in one PEM text.
fn generate(hostname: &str) -> anyhow::Result<String> {
    let mut names = vec![hostname.to_owned(), "localhost".to_owned()];
    names.dedup();
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    let mut params = CertificateParams::new(names)
        .with_context(|| format!("{hostname:?} cannot stand in a certificate"))?;
    params.distinguished_name.push(DnType::CommonName, hostname);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let year = this_year();
    params.not_before = rcgen::date_time_ymd(year, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

pub(crate) fn this_year() -> i32 {
    const SECONDS_OF_A_YEAR: u64 = 31_556_952;
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // A clock that is far off must not keep a server from starting.
    let years = i32::try_from(since_1970.as_secs() / SECONDS_OF_A_YEAR).unwrap_or(0);
    1970 + years.min(1000)
}

/// Writes beside the place and renames, so that another process that starts at the same moment
/// sees one whole pair, its own or ours.
fn write(path: &Path, pem: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_kept_while_the_name_stays_and_only_the_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = ensure("mail.example.org", folder.path()).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        ensure("mail.example.org", folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        ensure("mx.example.org", folder.path()).unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), first);
        assert!(is_for(&path, "mx.example.org") && is_for(&path, "localhost"));
        assert!(!is_for(&path, "mail.example.org"));
    }

    #[test]
    fn a_file_that_was_cut_short_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = ensure("mail.example.org", folder.path()).unwrap();
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nMII").unwrap();
        ensure("mail.example.org", folder.path()).unwrap();
        assert!(is_for(&path, "mail.example.org"));
    }
}
