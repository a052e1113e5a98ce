//! Alice and Bob, whose passwords are made once and can be printed at every start.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use postrider_mailbox::accounts::AccountsFile;
use postrider_protocol::api::Directory;
use postrider_protocol::mailbox_v1::{AuthenticateRequest, authenticate_response::Verdict};
use zeroize::Zeroizing;

use super::DOMAIN;
use crate::commands::password;
use crate::settings::Settings;

/// The passwords in clear, below the data folder, readable by their owner only. They guard
/// mailboxes on loopback that exist to be tried out.
pub(super) const FILE: &str = "try-out-passwords";

const PEOPLE: [&str; 2] = ["alice", "bob"];

/// An account and its password.
pub(super) struct Person {
    /// "alice@postrider.test".
    pub(super) address: String,
    /// Its password; none if it was changed since it was made up.
    pub(super) password: Option<Zeroizing<String>>,
}

/// Makes sure that the accounts exist. Passwords that were made up before stay.
///
/// # Errors
/// The data folder cannot be written to.
pub(super) fn ensure(settings: &Settings) -> anyhow::Result<Vec<Person>> {
    let path = settings.server.data_dir.join(FILE);
    let mut kept = read(&path)?;
    let accounts = AccountsFile::new(&settings.server, &settings.mailbox);
    let existing = accounts.list()?;
    let mut people = Vec::new();
    for person in PEOPLE {
        let address = format!("{person}@{DOMAIN}");
        let exists = existing
            .iter()
            .any(|account| account.name.to_string() == address);
        if !exists && !kept.contains_key(&address) {
            // Written before the account is made, so that no crash leaves an account whose
            // password nobody knows.
            kept.insert(address.clone(), password::generate());
            write(&path, &kept)?;
        }
        let password = kept.get(&address).cloned();
        if let (false, Some(password)) = (exists, &password) {
            accounts.add(&address, password)?;
        }
        people.push(Person { address, password });
    }
    Ok(people)
}

/// Forgets the passwords that are not right any more.
pub(super) async fn check(people: Vec<Person>, directory: &dyn Directory) -> Vec<Person> {
    let mut checked = Vec::new();
    for mut person in people {
        if let Some(password) = &person.password {
            let request = AuthenticateRequest {
                account: person.address.clone(),
                password: password.to_string(),
                client_address: "127.0.0.1".to_owned(),
            };
            let answer = directory.authenticate(request).await;
            if answer.is_ok_and(|answer| answer.verdict() == Verdict::Denied) {
                person.password = None;
            }
        }
        checked.push(person);
    }
    checked
}

type Passwords = BTreeMap<String, Zeroizing<String>>;

fn read(path: &Path) -> anyhow::Result<Passwords> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Passwords::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(address, password)| (address.to_owned(), Zeroizing::new(password.to_owned())))
        .collect())
}

/// Replaces the file in one step.
fn write(path: &Path, passwords: &Passwords) -> anyhow::Result<()> {
    let mut text = Zeroizing::new(
        "# The passwords of try-out mode, in clear. Delete the folder to begin anew.\n".to_owned(),
    );
    for (address, password) in passwords {
        text.push_str(&format!("{address} {}\n", **password));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        if let Err(error) = fs::remove_file(&beside)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn passwords_are_kept_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.server.domains = vec![DOMAIN.to_owned()];
        settings.server.data_dir = folder.path().join("data");
        let first = ensure(&settings).unwrap();
        let second = ensure(&settings).unwrap();
        assert_eq!(first.len(), 2);
        for (first, second) in first.iter().zip(&second) {
            assert_eq!(first.address, second.address);
            assert_eq!(
                **first.password.as_ref().unwrap(),
                **second.password.as_ref().unwrap()
            );
        }
        assert_ne!(
            **first[0].password.as_ref().unwrap(),
            **first[1].password.as_ref().unwrap()
        );
        let file = settings.server.data_dir.join(FILE);
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
