//! The accounts file as the command line edits it: under a lock, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use postrider_config::ServerConfig;
use rustix::fs::{FlockOperation, Gid, Uid};
use zeroize::Zeroizing;

use super::name::{AccountName, domain_to_ascii};
use super::password::{self, HashError};
use super::table::{Account, Table, TableError, parse_line};
use crate::config::MailboxConfig;

const HEADER: &str = "\
# Accounts: address, password hash (\"!\" for none), further addresses of the account.
# Kept by `postrider account`; may also be edited by hand. Changes take effect at once.
";

/// Why the accounts could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The text is no address that an account could have.
    #[error("{0:?} is not an address that an account can have")]
    InvalidName(String),
    /// The domain is not among `[server] domains`: no mail would ever reach the account.
    #[error("{0} is not a domain of this server; add it to domains in [server] first")]
    ForeignDomain(String),
    /// The address is already an account's own or its alias.
    #[error("{0} exists already")]
    Exists(AccountName),
    /// There is no such account.
    #[error("there is no account {0}")]
    Unknown(AccountName),
    /// Empty, or longer than 1,024 octets.
    #[error("a password must have between 1 and 1024 octets")]
    InvalidPassword,
    /// The file has a line that must be mended by hand first.
    #[error("{path}: {error}")]
    Malformed {
        /// The accounts file.
        path: PathBuf,
        /// The line and its problem.
        error: TableError,
    },
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// No hash could be made.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// The accounts file. Every change is made under a lock and replaces the file in one step, so
/// that readers see the old or the new one and a crash leaves one of the two.
///
/// Calls block: on the disk, on the lock and on the password hash (about 20 ms).
#[derive(Debug, Clone)]
pub struct AccountsFile {
    path: PathBuf,
    domains: Vec<String>,
}

impl AccountsFile {
    /// The file of this configuration. It need not exist yet.
    #[must_use]
    pub fn new(server: &ServerConfig, config: &MailboxConfig) -> Self {
        Self {
            path: config.accounts_path(server),
            domains: server
                .domains
                .iter()
                .filter_map(|d| domain_to_ascii(d))
                .collect(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The account that the operator means: an address, or its local part alone where the
    /// server has one domain.
    ///
    /// # Errors
    /// [`AccountsError::InvalidName`].
    pub fn name(&self, text: &str) -> Result<AccountName, AccountsError> {
        let name = match self.domains.as_slice() {
            [domain] if !text.contains('@') => AccountName::parse(&format!("{text}@{domain}")),
            _ => AccountName::parse(text),
        };
        name.ok_or_else(|| AccountsError::InvalidName(text.to_owned()))
    }

    /// Every account, in the file's order; none if there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or has a bad line.
    pub fn list(&self) -> Result<Vec<Account>, AccountsError> {
        self.parse(&self.read()?).map(Table::into_accounts)
    }

    /// Adds an account. The password is kept as its hash only.
    ///
    /// # Errors
    /// The name is invalid, foreign or taken, the password empty or too long; or the file fails.
    pub fn add(
        &self,
        name: &str,
        password: &Zeroizing<String>,
    ) -> Result<AccountName, AccountsError> {
        let name = self.name(name)?;
        if !self.domains.iter().any(|domain| domain == name.domain()) {
            return Err(AccountsError::ForeignDomain(name.domain().to_owned()));
        }
        let hash = hash(password)?;
        self.edit(|text, table| {
            if table.get(&name.to_string()).is_some() {
                return Err(AccountsError::Exists(name.clone()));
            }
            let mut text = if text.is_empty() {
                HEADER.to_owned()
            } else {
                text.to_owned()
            };
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Ok(text + &format!("{name} {hash}\n"))
        })?;
        Ok(name)
    }

    /// Removes an account, not its mail: the Maildir stays where it is.
    ///
    /// # Errors
    /// There is no such account, or the file fails.
    pub fn remove(&self, name: &str) -> Result<AccountName, AccountsError> {
        let name = self.name(name)?;
        self.edit(|text, _| rewrite(text, &name, |_| None))?;
        Ok(name)
    }

    /// Sets a new password.
    ///
    /// # Errors
    /// There is no such account, the password is empty or too long, or the file fails.
    pub fn passwd(
        &self,
        name: &str,
        password: &Zeroizing<String>,
    ) -> Result<AccountName, AccountsError> {
        let name = self.name(name)?;
        let hash = hash(password)?;
        self.edit(|text, _| {
            rewrite(text, &name, |account| {
                let mut line = format!("{name} {hash}");
                for alias in &account.aliases {
                    line.push(' ');
                    line.push_str(alias);
                }
                Some(line)
            })
        })?;
        Ok(name)
    }

    fn read(&self) -> Result<String, AccountsError> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| self.io(error)),
        }
    }

    fn parse(&self, text: &str) -> Result<Table, AccountsError> {
        Table::parse(text).map_err(|error| AccountsError::Malformed {
            path: self.path.clone(),
            error,
        })
    }

    fn io(&self, error: io::Error) -> AccountsError {
        AccountsError::Io {
            path: self.path.clone(),
            error,
        }
    }

    /// Replaces the text by what `change` makes of it.
    fn edit(
        &self,
        change: impl FnOnce(&str, &Table) -> Result<String, AccountsError>,
    ) -> Result<(), AccountsError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| self.io(error))?;
        // Closing it unlocks it, so also a crash does.
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(|error| self.io(error))?;
        keep_owner(&lock, &self.path, folder);
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| self.io(error.into()))?;
        let text = self.read()?;
        let text = change(&text, &self.parse(&text)?)?;
        // What is written must be readable again, or nobody could log in any more.
        self.parse(&text)?;
        self.replace(&text, folder).map_err(|error| self.io(error))
    }

    fn replace(&self, text: &str, folder: &Path) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        // Only the holder of the lock makes this file, so one that exists is a crash's.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        keep_owner(&file, &self.path, folder);
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

/// Gives a file that root makes to whom the old one, or else the folder, belongs: the service
/// does not run as root and must be able to read it. For anybody else this changes nothing.
fn keep_owner(file: &File, path: &Path, folder: &Path) {
    let Ok(owner) = fs::metadata(path).or_else(|_| fs::metadata(folder)) else {
        return;
    };
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if let Err(error) = rustix::fs::fchown(file, Some(uid), Some(gid)) {
        tracing::debug!(%error, "the accounts file keeps another owner");
    }
}

fn hash(password: &Zeroizing<String>) -> Result<String, AccountsError> {
    if password.is_empty() || password.len() > password::MAX_PASSWORD {
        return Err(AccountsError::InvalidPassword);
    }
    Ok(password::hash(password.as_bytes())?)
}

/// The text with one account's line replaced or left out, everything else as it was.
fn rewrite(
    text: &str,
    name: &AccountName,
    line: impl FnOnce(&Account) -> Option<String>,
) -> Result<String, AccountsError> {
    let mut line = Some(line);
    let mut result = String::with_capacity(text.len());
    for old in text.split_inclusive('\n') {
        match parse_line(old) {
            Ok(Some(account)) if account.name == *name => {
                if let Some(new) = line.take().and_then(|line| line(&account)) {
                    result.push_str(&new);
                    result.push('\n');
                }
            }
            _ => result.push_str(old),
        }
    }
    match line {
        None => Ok(result),
        Some(_) => Err(AccountsError::Unknown(name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &Path) -> AccountsFile {
        AccountsFile {
            path: folder.join("accounts"),
            domains: vec!["c.test".to_owned()],
        }
    }

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn accounts_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        assert!(file.list().unwrap().is_empty());
        file.add("Alice", &secret("one")).unwrap();
        file.add("bob@C.test", &secret("two")).unwrap();
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            file.add("alice", &secret("x")),
            Err(AccountsError::Exists(_))
        ));
        let accounts = file.list().unwrap();
        assert_eq!(accounts.len(), 2);
        assert!(password::verify(b"one", &accounts[0].hash));
        file.passwd("alice", &secret("three")).unwrap();
        let accounts = file.list().unwrap();
        assert!(password::verify(b"three", &accounts[0].hash));
        assert!(password::verify(b"two", &accounts[1].hash));
        file.remove("alice").unwrap();
        assert!(matches!(
            file.remove("alice"),
            Err(AccountsError::Unknown(_))
        ));
        assert_eq!(file.list().unwrap().len(), 1);
    }

    #[test]
    fn what_a_human_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        let text = "# mine\na@c.test ! x@c.test  y@c.test\n\n  # also mine\nb@c.test !";
        fs::write(file.path(), text).unwrap();
        file.add("c", &secret("p")).unwrap();
        file.passwd("a", &secret("p")).unwrap();
        file.remove("b").unwrap();
        let lines = fs::read_to_string(file.path()).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[0], "# mine");
        assert!(lines[1].starts_with("a@c.test $argon2id$"));
        assert!(lines[1].ends_with(" x@c.test y@c.test"));
        assert_eq!(lines[2..4], ["", "  # also mine"]);
        assert!(lines[4].starts_with("c@c.test $argon2id$"));
    }

    #[test]
    fn nonsense_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        let foreign = file.add("a@elsewhere.test", &secret("p"));
        assert!(matches!(foreign, Err(AccountsError::ForeignDomain(_))));
        assert!(matches!(
            file.add("../x y", &secret("p")),
            Err(AccountsError::InvalidName(_))
        ));
        assert!(matches!(
            file.add("a", &secret("")),
            Err(AccountsError::InvalidPassword)
        ));
        let long = secret(&"x".repeat(2_000));
        assert!(matches!(
            file.add("a", &long),
            Err(AccountsError::InvalidPassword)
        ));
        fs::write(file.path(), "broken\n").unwrap();
        assert!(matches!(
            file.add("a", &secret("p")),
            Err(AccountsError::Malformed { .. })
        ));
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "broken\n");
    }

    #[test]
    fn concurrent_edits_all_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        std::thread::scope(|scope| {
            for n in 0..8 {
                let file = &file;
                scope.spawn(move || file.add(&format!("u{n}"), &secret("p")).unwrap());
            }
        });
        assert_eq!(file.list().unwrap().len(), 8);
    }
}
