//! Values of header and DSN fields.

use std::fmt::Write as _;

use postrider_smtp::xtext;

/// A date as RFC 5322 section 3.3 writes it, in UTC.
pub(super) fn date(time_us: u64) -> String {
    i64::try_from(time_us)
        .ok()
        .and_then(|time| jiff::Timestamp::from_microsecond(time).ok())
        .unwrap_or_default()
        .strftime("%a, %d %b %Y %H:%M:%S +0000")
        .to_string()
}

/// Decodes xtext (RFC 3461 section 4). What is none stays as it is.
pub(super) fn from_xtext(text: &str) -> String {
    xtext::decode(text).unwrap_or_else(|| text.to_owned())
}

/// An address for `Final-Recipient` and `Original-Recipient`, with its type. In a report that
/// is not itself international, other characters are escaped (RFC 6533 section 3).
pub(super) fn typed_address(address: &str, international: bool) -> String {
    if address.is_ascii() {
        return format!("rfc822; {}", one_line(address, false));
    }
    if international {
        return format!("utf-8; {}", one_line(address, true));
    }
    let mut text = "utf-8; ".to_owned();
    for character in address.chars() {
        // The escapes' own characters are escaped too, so that the text reads back.
        if character.is_ascii_graphic() && !matches!(character, '\\' | '+' | '=') {
            text.push(character);
        } else {
            // Writing to a String cannot fail.
            let _infallible: std::fmt::Result = write!(text, "\\x{{{:02X}}}", u32::from(character));
        }
    }
    text
}

/// Text that stays within its field: no line ends, no control characters, and nothing beyond
/// ASCII unless the report is international. Whatever a remote server said passes here.
pub(super) fn one_line(text: &str, international: bool) -> String {
    text.chars()
        .map(|character| match character {
            '\r' | '\n' | '\t' => ' ',
            character if character.is_control() => '?',
            character if !character.is_ascii() && !international => '?',
            character => character,
        })
        .collect()
}

/// A field, folded at spaces so that lines stay within 78 characters where they can and within
/// 998 octets always (RFC 5322 section 2.1.1).
pub(super) fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str(": ");
    let mut column = name.len() + 2;
    for (number, word) in value.split(' ').enumerate() {
        if number > 0 {
            if column + 1 + word.len() > 78 && column > 1 {
                out.push_str("\r\n ");
                column = 1;
            } else {
                out.push(' ');
                column += 1;
            }
        }
        let mut word = word;
        while column + word.len() > 990 {
            let mut at = 900.min(word.len());
            while !word.is_char_boundary(at) {
                at -= 1;
            }
            out.push_str(&word[..at]);
            out.push_str("\r\n ");
            column = 1;
            word = &word[at..];
        }
        out.push_str(word);
        column += word.len();
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_mail() {
        assert_eq!(date(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 +0000");
    }

    #[test]
    fn xtext_decodes() {
        assert_eq!(from_xtext("a+2Bb+40c"), "a+b@c");
        assert_eq!(from_xtext("a+zz@"), "a+zz@");
    }

    #[test]
    fn foreign_words_cannot_leave_their_field() {
        let mut out = String::new();
        field(
            &mut out,
            "Diagnostic-Code",
            &one_line("smtp; 550 a\r\nBcc: all@x\u{0}é", false),
        );
        assert_eq!(out, "Diagnostic-Code: smtp; 550 a  Bcc: all@x??\r\n");
    }

    #[test]
    fn long_values_are_folded() {
        let mut out = String::new();
        let value = format!("{} {}", "word ".repeat(60), "x".repeat(3000));
        field(&mut out, "X", &value);
        assert!(out.lines().all(|line| line.len() <= 998));
        assert!(out.lines().skip(1).all(|line| line.starts_with(' ')));
        assert_eq!(out.matches("word").count(), 60);
    }

    #[test]
    fn international_addresses_are_escaped_where_they_must_be() {
        assert_eq!(typed_address("a@b.test", false), "rfc822; a@b.test");
        assert_eq!(
            typed_address("jürgen+x@b.test", false),
            "utf-8; j\\x{FC}rgen\\x{2B}x@b.test"
        );
        assert_eq!(typed_address("jürgen@b.test", true), "utf-8; jürgen@b.test");
    }
}
