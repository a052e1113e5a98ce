//! What a server offers in its reply to EHLO.

use crate::credentials::Mechanism;
use crate::extension::Extensions;
use crate::reply::Reply;

/// What a server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    /// Extensions that are known here.
    pub extensions: Extensions,
    /// The largest message it takes, in octets; 0 if it declares none.
    pub size: u64,
    plain: bool,
    login: bool,
}

impl Offer {
    /// Reads the lines of a reply to EHLO; the first is the server's name. What is unknown or
    /// malformed is skipped.
    #[must_use]
    pub fn parse(reply: &Reply) -> Self {
        let mut offer = Self::default();
        for line in reply.lines().skip(1) {
            // Some servers write `AUTH=LOGIN`, as drafts of the extension had it.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            let keyword = words.next().unwrap_or_default();
            let Some((_, extension)) = KEYWORDS
                .into_iter()
                .find(|(known, _)| keyword.eq_ignore_ascii_case(known))
            else {
                continue;
            };
            offer.extensions.insert(extension);
            if extension == Extensions::SIZE {
                offer.size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
            } else if extension == Extensions::AUTH {
                for word in words {
                    match word.parse() {
                        Ok(Mechanism::Plain) => offer.plain = true,
                        Ok(Mechanism::Login) => offer.login = true,
                        Err(_) => {}
                    }
                }
            }
        }
        offer
    }

    /// Whether it has all of these.
    #[must_use]
    pub const fn has(&self, extensions: Extensions) -> bool {
        self.extensions.contains(extensions)
    }

    /// The mechanism of AUTH to use: PLAIN, which takes one step, before LOGIN.
    #[must_use]
    pub const fn mechanism(&self) -> Option<Mechanism> {
        if self.plain {
            Some(Mechanism::Plain)
        } else if self.login {
            Some(Mechanism::Login)
        } else {
            None
        }
    }
}

const KEYWORDS: [(&str, Extensions); 10] = [
    ("PIPELINING", Extensions::PIPELINING),
    ("SIZE", Extensions::SIZE),
    ("8BITMIME", Extensions::EIGHT_BIT_MIME),
    ("SMTPUTF8", Extensions::SMTPUTF8),
    ("ENHANCEDSTATUSCODES", Extensions::ENHANCED_STATUS_CODES),
    ("CHUNKING", Extensions::CHUNKING),
    ("DSN", Extensions::DSN),
    ("STARTTLS", Extensions::STARTTLS),
    ("AUTH", Extensions::AUTH),
    ("MT-PRIORITY", Extensions::MT_PRIORITY),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_write() {
        let reply = Reply::plain(
            250,
            "mx.test\nPIPELINING\nsize 1000\nAUTH LOGIN\nAUTH=PLAIN\nX-WHATEVER a b\n\n8BITMIME",
        );
        let offer = Offer::parse(&reply);
        assert_eq!(offer.size, 1000);
        assert!(offer.has(Extensions::PIPELINING | Extensions::SIZE | Extensions::EIGHT_BIT_MIME));
        assert!(!offer.has(Extensions::DSN));
        assert_eq!(offer.mechanism(), Some(Mechanism::Plain));
        assert_eq!(Offer::parse(&Reply::plain(250, "SIZE 5")), Offer::default());
        assert_eq!(Offer::parse(&Reply::plain(250, "x\nSIZE\nSIZE x")).size, 0);
    }
}
