//! Addresses brought into one form, so that equal mailboxes are equal as text.

use std::fmt;

/// RFC 5321 section 4.5.3.1.1.
const MAX_LOCAL: usize = 64;
/// RFC 5321 section 4.5.3.1.2.
const MAX_DOMAIN: usize = 255;

/// An address in the form in which it is looked up: quoting undone, letters small, the domain in
/// its ASCII form.
///
/// The local part may hold anything that a quoted string can (spaces, slashes, `@`), so it never
/// becomes a path or a line of a file without being encoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) local: String,
    pub(crate) domain: String,
}

impl Address {
    /// Reads `local@domain`, with the local part bare or quoted (RFC 5321 section 4.1.2).
    /// `None` for what can be no mailbox here, address literals included.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (local, domain) = match text.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (local, domain) = text.rsplit_once('@')?;
                // Only quoting makes these harmless.
                if local.contains(['"', '\\', '@', ' ']) {
                    return None;
                }
                (local.to_owned(), domain)
            }
        };
        if local.is_empty() || local.len() > MAX_LOCAL || local.chars().any(char::is_control) {
            return None;
        }
        Some(Self {
            local: fold(local),
            domain: domain_to_ascii(domain)?,
        })
    }

    /// The text by which tables are keyed.
    pub(crate) fn key(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }
}

/// Small letters, also beyond ASCII. RFC 5321 section 2.4 leaves the case of a local part to its
/// own server; nobody wants Alice and alice to be two people.
fn fold(local: String) -> String {
    if local.is_ascii() {
        let mut local = local;
        local.make_ascii_lowercase();
        local
    } else {
        local.to_lowercase()
    }
}

/// Undoes a quoted string whose first quote is already gone; gives it and the domain.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((local, quoted[at + 1..].strip_prefix('@')?)),
            '\\' => local.push(chars.next()?.1),
            c => local.push(c),
        }
    }
    None
}

/// The domain in small ASCII letters, international labels as `xn--…`. `None` for text that is
/// no domain name.
pub(crate) fn domain_to_ascii(domain: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let ascii = if domain.bytes().all(plain) {
        domain.to_ascii_lowercase()
    } else {
        let ascii = idna::domain_to_ascii(domain).ok()?;
        ascii.bytes().all(plain).then_some(ascii)?
    };
    let label = |label: &str| !label.is_empty() && label.len() <= 63;
    (ascii.len() <= MAX_DOMAIN && ascii.split('.').all(label)).then_some(ascii)
}

/// An account's own name, e.g. "alice@postrider.test": what it logs in by and what its folder is
/// called after.
///
/// Its local part needs no quoting (RFC 5321's dot-string, with letters of any script as RFC 6531
/// allows), because hardly a mail program can log in by a name that does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName {
    local: String,
    domain: String,
}

impl AccountName {
    /// Reads an account's address, in any case of letters. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Address { local, domain } = Address::parse(text)?;
        let atext = |c: char| {
            c.is_ascii_alphanumeric()
                || "!#$%&'*+-/=?^_`{|}~".contains(c)
                || (!c.is_ascii() && !c.is_whitespace())
        };
        let atom = |atom: &str| !atom.is_empty() && atom.chars().all(atext);
        // A leading "#" would read as a comment in the accounts file.
        (local.split('.').all(atom) && !local.starts_with('#')).then_some(Self { local, domain })
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local
    }

    /// What stands after the `@`, in ASCII.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        Address::parse(text).map(|address| address.key())
    }

    #[test]
    fn equal_mailboxes_are_equal_text() {
        for text in [
            "alice@postrider.test",
            "Alice@POSTRIDER.test",
            "\"alice\"@postrider.test",
            "\"al\\ice\"@postrider.test",
        ] {
            assert_eq!(key(text).as_deref(), Some("alice@postrider.test"), "{text}");
        }
        assert_eq!(
            key("ÄNNE@Bücher.example"),
            key("änne@xn--bcher-kva.example")
        );
        assert_eq!(key("\"a@b\"@c.test").as_deref(), Some("a@b@c.test"));
    }

    #[test]
    fn what_is_no_mailbox_is_refused() {
        let long = format!("{}@c.test", "a".repeat(65));
        let wide = format!("a@{}.test", "b".repeat(64));
        for text in [
            "",
            "@",
            "alice",
            "alice@",
            "@c.test",
            "a b@c.test",
            "a\"b@c.test",
            "\"a@c.test",
            "\"a\"b@c.test",
            "a@[127.0.0.1]",
            "a@c..test",
            "a@-/test",
            "a\0@c.test",
            "a@c\0.test",
            "\"a\r\n\"@c.test",
            &long,
            &wide,
        ] {
            assert_eq!(key(text), None, "{text:?}");
        }
    }

    #[test]
    fn account_names_need_no_quoting() {
        assert!(AccountName::parse("o'neil/x.y@c.test").is_some());
        for text in [
            "\"a b\"@c.test",
            "..@c.test",
            ".a@c.test",
            "#a@c.test",
            "\"a@b\"@c.test",
        ] {
            assert_eq!(AccountName::parse(text), None, "{text}");
        }
    }
}
