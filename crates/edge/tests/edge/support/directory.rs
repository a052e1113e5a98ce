//! A fake of the directory: alice and bob, and what it is told to do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use postrider_protocol::Status;
use postrider_protocol::api::{Directory, Result};
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, AuthenticateResponse, authenticate_response, lookup_response::Verdict,
};

/// Knows alice, bob, the postmaster, and `full`, whose mailbox is full.
#[derive(Default)]
pub(crate) struct FakeDirectory {
    /// Every call fails.
    pub(crate) away: AtomicBool,
    /// Every call takes for ever.
    pub(crate) hangs: AtomicBool,
    /// Calls of `lookup`.
    pub(crate) lookups: AtomicUsize,
}

impl FakeDirectory {
    async fn trouble(&self) -> Result<()> {
        if self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("the directory is away"));
        }
        Ok(())
    }
}

#[async_trait]
impl Directory for FakeDirectory {
    async fn lookup(&self, addresses: Vec<String>) -> Result<Vec<Verdict>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        self.trouble().await?;
        let verdict = |address: &String| match address.to_lowercase().as_str() {
            "alice@here.test" | "bob@here.test" | "postmaster@here.test" => Verdict::Exists,
            "full@here.test" => Verdict::MailboxFull,
            known if known.ends_with("@here.test") => Verdict::NoSuchUser,
            _ => Verdict::NotLocal,
        };
        Ok(addresses.iter().map(verdict).collect())
    }

    async fn authenticate(&self, request: AuthenticateRequest) -> Result<AuthenticateResponse> {
        self.trouble().await?;
        let granted = request.account.eq_ignore_ascii_case("bob@here.test")
            && request.password == "secret-of-bob";
        let (verdict, account) = if granted {
            (
                authenticate_response::Verdict::Granted,
                "bob@here.test".to_owned(),
            )
        } else {
            (authenticate_response::Verdict::Denied, String::new())
        };
        Ok(AuthenticateResponse {
            verdict: verdict.into(),
            account,
        })
    }
}
