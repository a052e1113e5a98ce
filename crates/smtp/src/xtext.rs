//! xtext (RFC 3461 section 4): text in ESMTP parameters, with `+` and two hexadecimal digits for
//! what may not stand there.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Whether it is well-formed xtext: `!` to `~` without `=`, and each `+` followed by two
/// hexadecimal digits in upper case.
#[must_use]
pub fn is_xtext(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'+', [high, low, after @ ..]) if is_upper_hex(*high) && is_upper_hex(*low) => after,
            (b'+' | b'=', _) => return false,
            (b'!'..=b'~', _) => after,
            _ => return false,
        };
    }
    true
}

const fn is_upper_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

/// Encodes text.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' | 0..=b' ' | 0x7f.. => {
                // Writing to a String cannot fail.
                let _infallible: core::fmt::Result = write!(encoded, "+{byte:02X}");
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// Decodes xtext; `None` if it is malformed or does not decode to UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    if !is_xtext(text) {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'+' {
            decoded.push(hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes() {
        for (text, encoded) in [
            ("bob@example.org", "bob@example.org"),
            ("a+b=c d", "a+2Bb+3Dc+20d"),
            ("ü", "+C3+BC"),
            ("", ""),
        ] {
            assert_eq!(encode(text), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(text));
        }
    }

    #[test]
    fn refuses_what_is_malformed() {
        for text in ["+", "+2", "+2b", "a=b", "a b", "ü", "+G0", "+FF"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
