//! The directory: which account an address belongs to, and who may come in.

use async_trait::async_trait;
use postrider_config::ServerConfig;
use postrider_protocol::Status;
use postrider_protocol::api::{Directory, Result};
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, AuthenticateResponse, authenticate_response, lookup_response,
};
use zeroize::Zeroizing;

use crate::accounts::{Account, AccountName, Address, Table, Verdict, domain_to_ascii};
use crate::config::MailboxConfig;
use crate::metrics::Authentication;
use crate::service::MailboxService;

/// Addresses that one lookup may ask for.
const MAX_LOOKUP: usize = 10_000;

/// How addresses map to accounts, apart from the accounts themselves.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// In ASCII; the first is meant where an address has no domain.
    domains: Vec<String>,
    postmaster: Option<AccountName>,
    delimiter: Option<char>,
}

/// What an address stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved<'a> {
    Account(&'a Account),
    NoSuchUser,
    NotLocal,
}

impl Rules {
    pub(crate) fn new(server: &ServerConfig, config: &MailboxConfig) -> Self {
        Self {
            domains: server
                .domains
                .iter()
                .filter_map(|d| domain_to_ascii(d))
                .collect(),
            postmaster: AccountName::parse(&config.postmaster),
            delimiter: config.delimiter.chars().next(),
        }
    }

    /// Finds the account of an address: the address itself (an account's own or an alias), then
    /// without its subaddress, then postmaster.
    pub(crate) fn resolve<'a>(&self, table: &'a Table, text: &str) -> Resolved<'a> {
        // RFC 5321 section 4.1.1.3: RCPT TO:<postmaster>, without a domain, is valid.
        let parsed = match self.domains.first() {
            Some(domain) if text.eq_ignore_ascii_case("postmaster") => Some(Address {
                local: text.to_ascii_lowercase(),
                domain: domain.clone(),
            }),
            _ => Address::parse(text),
        };
        let Some(mut address) = parsed else {
            return self.resolve_malformed(text);
        };
        if !self.domains.contains(&address.domain) {
            return Resolved::NotLocal;
        }
        if let Some(account) = table.get(&address.key()) {
            return Resolved::Account(account);
        }
        if let Some(at) = self.delimiter.and_then(|c| address.local.find(c))
            && at > 0
        {
            address.local.truncate(at);
            if let Some(account) = table.get(&address.key()) {
                return Resolved::Account(account);
            }
        }
        if address.local == "postmaster" {
            return self.postmaster(table, &address.domain);
        }
        Resolved::NoSuchUser
    }

    /// Nobody has a malformed address; but at whose domain it is tells what to answer.
    fn resolve_malformed(&self, text: &str) -> Resolved<'static> {
        let domain = text
            .rsplit_once('@')
            .and_then(|(_, domain)| domain_to_ascii(domain));
        match domain {
            Some(domain) if self.domains.contains(&domain) => Resolved::NoSuchUser,
            _ => Resolved::NotLocal,
        }
    }

    /// RFC 5321 section 4.5.1: mail to postmaster is taken, whoever forgot to set one up.
    fn postmaster<'a>(&self, table: &'a Table, domain: &str) -> Resolved<'a> {
        let chosen = self
            .postmaster
            .as_ref()
            .and_then(|name| table.by_name(name));
        let accounts = table.accounts();
        chosen
            .or_else(|| {
                accounts
                    .iter()
                    .find(|account| account.name.domain() == domain)
            })
            .or_else(|| accounts.first())
            .map_or(Resolved::NoSuchUser, Resolved::Account)
    }

    /// The account that a client names when it logs in: its address, or its local part where
    /// the server has one domain. Aliases and subaddresses cannot log in.
    pub(crate) fn login<'a>(&self, table: &'a Table, text: &str) -> Option<&'a Account> {
        let name = match self.domains.as_slice() {
            [domain] if !text.contains('@') => AccountName::parse(&format!("{text}@{domain}")),
            _ => AccountName::parse(text),
        }?;
        table.by_name(&name)
    }
}

#[async_trait]
impl Directory for MailboxService {
    async fn lookup(&self, addresses: Vec<String>) -> Result<Vec<lookup_response::Verdict>> {
        use lookup_response::Verdict;
        if addresses.len() > MAX_LOOKUP {
            return Err(Status::invalid_argument("too many addresses in one lookup"));
        }
        let table = self.accounts.now();
        let rules = self.rules.load();
        let verdict = |address: &String| match rules.resolve(&table, address) {
            Resolved::Account(_) => Verdict::Exists,
            Resolved::NoSuchUser => Verdict::NoSuchUser,
            Resolved::NotLocal => Verdict::NotLocal,
        };
        Ok(addresses.iter().map(verdict).collect())
    }

    async fn authenticate(&self, request: AuthenticateRequest) -> Result<AuthenticateResponse> {
        let password = Zeroizing::new(request.password);
        let (verdict, account) = self
            .check_password(&request.account, password, &request.client_address)
            .await;
        use authenticate_response::Verdict as Answer;
        let answer = match verdict {
            Verdict::Granted => Answer::Granted,
            Verdict::Denied => Answer::Denied,
            Verdict::Busy => Answer::Temporary,
        };
        Ok(AuthenticateResponse {
            verdict: answer.into(),
            account: account.map(|name| name.to_string()).unwrap_or_default(),
        })
    }
}

impl MailboxService {
    /// Checks a password; names the account if it was right.
    pub(crate) async fn check_password(
        &self,
        login: &str,
        password: Zeroizing<String>,
        client: &str,
    ) -> (Verdict, Option<AccountName>) {
        let table = self.accounts.now();
        let account = self.rules.load().login(&table, login).cloned();
        let verdict = self.verifier.verify(account.as_ref(), password).await;
        match verdict {
            Verdict::Granted => {
                self.metrics.authentication(Authentication::Granted);
                return (verdict, account.map(|account| account.name));
            }
            Verdict::Denied => {
                self.metrics.authentication(Authentication::Denied);
                // What was typed as a name may be a password: only known accounts are named.
                let account = account.map(|account| account.name.to_string());
                tracing::info!(client, account, "password refused");
            }
            Verdict::Busy => {
                self.metrics.authentication(Authentication::Busy);
                tracing::warn!(client, "too many password checks at once");
            }
        }
        (verdict, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(domains: &[&str], postmaster: &str) -> Rules {
        let server = ServerConfig {
            domains: domains.iter().map(ToString::to_string).collect(),
            ..ServerConfig::default()
        };
        let config = MailboxConfig {
            postmaster: postmaster.to_owned(),
            ..MailboxConfig::default()
        };
        Rules::new(&server, &config)
    }

    fn table() -> Table {
        Table::parse("alice@c.test ! info@c.test\nbob@d.test !\na+b@c.test !\n").unwrap()
    }

    #[test]
    fn addresses_find_their_accounts() {
        let (rules, table) = (rules(&["C.test", "d.test"], ""), table());
        for (address, account) in [
            ("alice@c.test", "alice@c.test"),
            ("ALICE@C.TEST", "alice@c.test"),
            ("\"alice\"@c.test", "alice@c.test"),
            ("info@c.test", "alice@c.test"),
            ("alice+lists@c.test", "alice@c.test"),
            ("alice+a+b@c.test", "alice@c.test"),
            ("\"alice+with space\"@c.test", "alice@c.test"),
            ("info+x@c.test", "alice@c.test"),
            ("a+b@c.test", "a+b@c.test"),
            ("PostMaster@d.test", "bob@d.test"),
            ("postmaster@c.test", "alice@c.test"),
            ("postmaster+x@c.test", "alice@c.test"),
            ("Postmaster", "alice@c.test"),
        ] {
            match rules.resolve(&table, address) {
                Resolved::Account(found) => {
                    assert_eq!(found.name.to_string(), account, "{address}")
                }
                other => panic!("{address}: {other:?}"),
            }
        }
        for address in [
            "bob@c.test",
            "+alice@c.test",
            "@c.test",
            "a b@c.test",
            "alice@d.test",
        ] {
            assert_eq!(
                rules.resolve(&table, address),
                Resolved::NoSuchUser,
                "{address}"
            );
        }
        for address in [
            "alice@e.test",
            "alice",
            "",
            "alice@[127.0.0.1]",
            "alice@c.test.evil",
        ] {
            assert_eq!(
                rules.resolve(&table, address),
                Resolved::NotLocal,
                "{address}"
            );
        }
    }

    #[test]
    fn postmaster_may_be_set() {
        let (set, table) = (rules(&["c.test", "d.test"], "bob@d.test"), table());
        for address in ["postmaster@c.test", "postmaster@d.test"] {
            let bob = AccountName::parse("bob@d.test").unwrap();
            assert_eq!(
                set.resolve(&table, address),
                Resolved::Account(table.by_name(&bob).unwrap())
            );
        }
        let empty = Table::default();
        assert_eq!(
            set.resolve(&empty, "postmaster@c.test"),
            Resolved::NoSuchUser
        );
    }

    #[test]
    fn short_names_log_in_where_one_domain_is() {
        let table = table();
        let one = rules(&["c.test"], "");
        assert!(one.login(&table, "Alice").is_some());
        assert!(one.login(&table, "alice@c.test").is_some());
        assert!(one.login(&table, "info@c.test").is_none());
        assert!(one.login(&table, "alice+x").is_none());
        assert!(
            rules(&["c.test", "d.test"], "")
                .login(&table, "alice")
                .is_none()
        );
    }
}
