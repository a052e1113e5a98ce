//! `postrider account …`: edits the accounts file of the configuration.

use std::process::ExitCode;

use postrider_mailbox::accounts::{AccountsError, AccountsFile};
use serde_json::json;
use zeroize::Zeroizing;

use super::{OK, nothing, password};
use crate::cli::AccountCommand;
use crate::out;
use crate::settings::Settings;
use crate::table::aligned;
use crate::term::Style;

/// Carries out a command on the accounts file. A running server sees a change at once.
///
/// # Errors
/// The file or the password cannot be read, or the account is not acceptable.
pub fn run(settings: &Settings, command: AccountCommand) -> anyhow::Result<ExitCode> {
    let accounts = AccountsFile::new(&settings.server, &settings.mailbox);
    match command {
        AccountCommand::Add { address, generate } => {
            let name = accounts.name(&address)?.to_string();
            let password = get_password(&name, generate)?;
            accounts.add(&name, &password.text)?;
            out::line(format_args!("{name} was added."))?;
            password.show()?;
        }
        AccountCommand::Passwd { address, generate } => {
            let name = accounts.name(&address)?.to_string();
            if !accounts
                .list()?
                .iter()
                .any(|account| account.name.to_string() == name)
            {
                return unknown(&name);
            }
            let password = get_password(&name, generate)?;
            accounts.passwd(&name, &password.text)?;
            out::line(format_args!("{name} has a new password."))?;
            password.show()?;
        }
        AccountCommand::Remove { address } => match accounts.remove(&address) {
            Ok(name) => out::line(format_args!(
                "{name} was removed; its mail is still on disk."
            ))?,
            Err(AccountsError::Unknown(name)) => return unknown(&name.to_string()),
            Err(error) => return Err(error.into()),
        },
        AccountCommand::List { json } => list(&accounts, json)?,
    }
    Ok(OK)
}

fn list(accounts: &AccountsFile, as_json: bool) -> anyhow::Result<()> {
    let accounts = accounts.list()?;
    if as_json {
        for account in &accounts {
            out::line(json!({
                "name": account.name.to_string(),
                "aliases": account.aliases,
                "can_log_in": account.can_log_in(),
            }))?;
        }
        return Ok(());
    }
    let mut rows = vec![vec![
        "ACCOUNT".to_owned(),
        "LOGIN".to_owned(),
        "ALSO".to_owned(),
    ]];
    rows.extend(accounts.iter().map(|account| {
        let login = if account.can_log_in() { "yes" } else { "no" };
        vec![
            account.name.to_string(),
            login.to_owned(),
            account.aliases.join(" "),
        ]
    }));
    out::lines(&aligned(&rows, Style::of_stdout().unicode))?;
    Ok(())
}

fn unknown(name: &str) -> anyhow::Result<ExitCode> {
    anstream::eprintln!("There is no account {name}.");
    Ok(nothing())
}

/// A password, and whether its owner has yet to learn it.
struct NewPassword {
    text: Zeroizing<String>,
    generated: bool,
}

impl NewPassword {
    fn show(&self) -> std::io::Result<()> {
        if !self.generated {
            return Ok(());
        }
        out::line(format_args!("Password: {}", *self.text))
    }
}

fn get_password(name: &str, generate: bool) -> anyhow::Result<NewPassword> {
    Ok(NewPassword {
        text: if generate {
            password::generate()
        } else {
            password::ask(name)?
        },
        generated: generate,
    })
}
