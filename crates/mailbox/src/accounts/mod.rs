//! Accounts: the file that keeps them, and password checks.
//!
//! [`AccountsFile`] is what the command line edits. The service reads the same file through
//! `live`, which notices a change at the next question, and checks passwords in `verifier`.
//!
//! The file holds one account a line, and keeps the comments and the order that a human gave it:
//!
//! ```text
//! # address            password hash (or ! for none)    further addresses of the account
//! alice@example.org    $argon2id$v=19$m=19456,t=2,...   postmaster@example.org info@example.org
//! ```

mod file;
mod live;
mod name;
mod password;
mod table;
mod verifier;

pub use file::{AccountsError, AccountsFile};
pub use name::AccountName;
pub use password::HashError;
pub use table::{Account, TableError};

pub(crate) use live::LiveAccounts;
pub(crate) use name::{Address, domain_to_ascii};
pub(crate) use table::Table;
pub(crate) use verifier::{Verdict, Verifier};
