//! Local parts: dot-strings and quoted strings (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

use alloc::borrow::Cow;
use alloc::string::String;

/// Octets of the local part at the start of `text`; `None` if there is none. It ends before
/// the first character that can't belong to it.
pub(super) fn length(text: &str) -> Option<usize> {
    if text.starts_with('"') {
        quoted_length(text)
    } else {
        dot_string_length(text)
    }
}

fn dot_string_length(text: &str) -> Option<usize> {
    let end = text
        .find(|c| !is_atext(c) && c != '.')
        .unwrap_or(text.len());
    let local = &text.as_bytes()[..end];
    let well_dotted = local.first().is_some_and(|first| *first != b'.')
        && local.last().is_some_and(|last| *last != b'.')
        && !local.windows(2).any(|pair| pair == b"..");
    well_dotted.then_some(end)
}

fn quoted_length(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    while let Some((position, char)) = chars.next() {
        match char {
            '"' => return Some(position + 1),
            // quoted-pairSMTP: only printable ASCII may be quoted.
            '\\' if !matches!(chars.next(), Some((_, ' '..='~'))) => return None,
            _ if char.is_control() => return None,
            _ => {}
        }
    }
    None
}

fn is_atext(char: char) -> bool {
    match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '/' | '=' | '?' | '^' | '_'
        | '`' | '{' | '|' | '}' | '~' => true,
        _ => !char.is_ascii() && !char.is_control() && !char.is_whitespace(),
    }
}

/// The content of a quoted string; a dot-string as it is.
pub(super) fn unquote(local: &str) -> Cow<'_, str> {
    let Some(inner) = local
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Cow::Borrowed(local);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut unquoted = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        // A backslash is never the last: it would have quoted the closing quote.
        unquoted.extend(if char == '\\' {
            chars.next()
        } else {
            Some(char)
        });
    }
    Cow::Owned(unquoted)
}
