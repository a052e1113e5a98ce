//! What must not be printed.

use std::fmt;

use crate::mailbox_v1::AuthenticateRequest;

impl fmt::Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateRequest")
            .field("account", &self.account)
            .field("password", &"[hidden]")
            .field("client_address", &self.client_address)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let request = AuthenticateRequest {
            account: "alice@here.test".to_owned(),
            password: "open sesame".to_owned(),
            client_address: String::new(),
        };
        let printed = format!("{request:?}");
        assert!(printed.contains("alice@here.test") && !printed.contains("sesame"));
    }
}
