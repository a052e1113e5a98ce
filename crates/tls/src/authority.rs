//! Certificates with which the services of one system know each other (mutual TLS).
//!
//! One authority signs one certificate that all services share, and its key is thrown away: what
//! is left on disk can be used but signs nothing more.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::self_signed::this_year;

/// The authority's certificate.
pub const AUTHORITY: &str = "ca.pem";
/// The services' certificate.
pub const CERTIFICATE: &str = "service.pem";
/// The services' key.
pub const KEY: &str = "service.key";

/// Years for which they hold; whoever wants it shorter makes them anew.
const YEARS: i32 = 10;

/// What [`ensure`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// They were made.
    New,
    /// They were there, and stay.
    Kept,
}

/// Makes sure that `folder` holds [`AUTHORITY`], [`CERTIFICATE`] and [`KEY`], valid for these host
/// names, for servers and for clients. What is there already is kept.
///
/// # Errors
/// A name cannot stand in a certificate, only some of the files are there, or the folder cannot
/// be written to.
pub fn ensure(folder: &Path, names: &[String]) -> anyhow::Result<Made> {
    let files = [AUTHORITY, CERTIFICATE, KEY];
    let present = files
        .iter()
        .filter(|file| folder.join(file).exists())
        .count();
    if present == files.len() {
        return Ok(Made::Kept);
    }
    anyhow::ensure!(
        present == 0,
        "{} holds some of {files:?} and not all: remove them, and all services get new ones",
        folder.display()
    );
    fs::create_dir_all(folder)
        .with_context(|| format!("making the folder {}", folder.display()))?;
    let authority_key = KeyPair::generate()?;
    let mut authority = parameters(&[], "Postrider services")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let mut service = parameters(names, "Postrider service")?;
    service.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = service.signed_by(&key, &issuer)?;

    write(&folder.join(KEY), &key.serialize_pem(), 0o600)?;
    write(&folder.join(CERTIFICATE), &certificate.pem(), 0o644)?;
    write(&folder.join(AUTHORITY), &authority_certificate.pem(), 0o644)?;
    Ok(Made::New)
}

fn parameters(names: &[String], common_name: &str) -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(names)
        .with_context(|| format!("{names:?} cannot stand in a certificate"))?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let year = this_year();
    parameters.not_before = rcgen::date_time_ymd(year, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    Ok(parameters)
}

fn write(path: &Path, pem: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn they_are_made_once_and_only_the_owner_reads_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["queue".to_owned(), "mailbox".to_owned()];
        assert_eq!(ensure(folder.path(), &names).unwrap(), Made::New);
        let first = fs::read_to_string(folder.path().join(CERTIFICATE)).unwrap();
        assert_eq!(ensure(folder.path(), &names).unwrap(), Made::Kept);
        assert_eq!(
            fs::read_to_string(folder.path().join(CERTIFICATE)).unwrap(),
            first
        );
        let mode = fs::metadata(folder.path().join(KEY))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(folder.path().join(CERTIFICATE)).unwrap();
        assert!(
            ensure(folder.path(), &names).is_err(),
            "half a set is not completed"
        );
    }
}
