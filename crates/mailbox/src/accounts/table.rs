//! The accounts as they stand in the file, parsed and ready to be asked.

use std::collections::HashMap;
use std::fmt;

use super::name::{AccountName, Address};
use super::password;

/// Who may have mail here.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's own address.
    pub name: AccountName,
    /// Further addresses whose mail goes to it, in the form in which they are looked up.
    pub aliases: Vec<String>,
    /// The password's hash, or `!`.
    pub(crate) hash: String,
}

impl Account {
    /// Whether it has a password to log in with.
    #[must_use]
    pub fn can_log_in(&self) -> bool {
        self.hash != password::LOCKED
    }
}

impl fmt::Debug for Account {
    /// Leaves the hash out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.aliases)
    }
}

/// A line of the accounts file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TableError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it. Never quotes the hash.
    pub problem: String,
}

/// Every account, found by its address and its aliases.
#[derive(Debug, Default)]
pub(crate) struct Table {
    accounts: Vec<Account>,
    by_address: HashMap<String, usize>,
}

impl Table {
    /// Reads the text of an accounts file.
    pub(crate) fn parse(text: &str) -> Result<Self, TableError> {
        let mut table = Self::default();
        for (index, line) in text.lines().enumerate() {
            let problem = |problem| TableError {
                line: index + 1,
                problem,
            };
            if let Some(account) = parse_line(line).map_err(problem)? {
                table.insert(account).map_err(problem)?;
            }
        }
        Ok(table)
    }

    fn insert(&mut self, account: Account) -> Result<(), String> {
        let index = self.accounts.len();
        let own = account.name.to_string();
        for address in std::iter::once(&own).chain(&account.aliases) {
            if self.by_address.insert(address.clone(), index).is_some() {
                return Err(format!("{address} stands in the file twice"));
            }
        }
        self.accounts.push(account);
        Ok(())
    }

    /// The account with this address or alias, given as [`Address::key`] writes it.
    pub(crate) fn get(&self, key: &str) -> Option<&Account> {
        self.by_address.get(key).map(|index| &self.accounts[*index])
    }

    /// The account with this very name; aliases do not count.
    pub(crate) fn by_name(&self, name: &AccountName) -> Option<&Account> {
        self.get(&name.to_string())
            .filter(|account| account.name == *name)
    }

    /// Every account, in the file's order.
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Every account, in the file's order.
    pub(crate) fn into_accounts(self) -> Vec<Account> {
        self.accounts
    }
}

/// The account of one line; `None` for blank lines and comments.
pub(crate) fn parse_line(line: &str) -> Result<Option<Account>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let mut fields = line.split_whitespace();
    let address = fields.next().unwrap_or_default();
    let name = AccountName::parse(address)
        .ok_or_else(|| format!("{address:?} is not the address of an account"))?;
    let hash = fields
        .next()
        .ok_or_else(|| format!("{name} has no password hash (\"!\" for none)"))?;
    password::check_form(hash).map_err(|error| format!("{name}: {error}"))?;
    let aliases = fields
        .map(|alias| {
            Address::parse(alias)
                .map(|address| address.key())
                .ok_or_else(|| format!("{alias:?} is not an address"))
        })
        .collect::<Result<_, _>>()?;
    Ok(Some(Account {
        name,
        aliases,
        hash: hash.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_every_address() {
        let table =
            Table::parse("# people\n\nAlice@c.test ! info@c.test Root@c.test\nbob@c.test !\n")
                .unwrap();
        for key in ["alice@c.test", "info@c.test", "root@c.test"] {
            assert_eq!(table.get(key).unwrap().name.local_part(), "alice", "{key}");
        }
        assert!(table.get("carol@c.test").is_none());
        assert!(
            table
                .by_name(&AccountName::parse("info@c.test").unwrap())
                .is_none()
        );
        assert_eq!(table.accounts().len(), 2);
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, line) in [
            ("alice", 1),
            ("\n# x\nalice@c.test", 3),
            ("alice@c.test secret", 1),
            ("a@c.test !\nA@c.test !", 2),
            ("a@c.test ! b@c.test\nb@c.test !", 2),
            ("a@c.test ! nonsense", 1),
        ] {
            assert_eq!(Table::parse(text).unwrap_err().line, line, "{text}");
        }
        let error = Table::parse("alice@c.test secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
