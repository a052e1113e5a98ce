//! Text as a terminal may show it: made harmless, measured, wrapped.

/// How many columns a character takes: two for the wide ones of East Asia and for pictures, none
/// for what joins the character before. Near enough to wrap by.
fn columns(character: char) -> usize {
    match u32::from(character) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// How many columns a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The text without anything that a terminal would obey. What other servers say is shown to
/// operators, and must not move their cursor or change what stands above.
#[must_use]
pub fn harmless(text: &str, unicode: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let steers = character.is_control()
            || matches!(u32::from(character), 0x202a..=0x202e | 0x2066..=0x2069 | 0x200e | 0x200f);
        match character {
            '\t' => out.push(' '),
            _ if steers || (!unicode && !character.is_ascii()) => {
                out.extend(character.escape_default());
            }
            _ => out.push(character),
        }
    }
    out
}

/// Breaks a text into lines of at most so many columns: at spaces where there are some, inside a
/// word where one is longer than a line. Every line but the first is `hang` columns shorter.
#[must_use]
pub fn wrap(text: &str, most: usize, hang: usize) -> Vec<String> {
    let whole = most.max(1);
    let mut most = whole;
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut taken = 0;
    for word in text.split_inclusive(' ') {
        let bare = width(word.trim_end_matches(' '));
        if taken > 0 && taken + bare > most {
            lines.push(std::mem::take(&mut line).trim_end_matches(' ').to_owned());
            most = whole.saturating_sub(hang).max(1);
            taken = 0;
        }
        for character in word.chars() {
            let needs = columns(character);
            if taken > 0 && taken + needs > most {
                if character == ' ' {
                    continue;
                }
                lines.push(std::mem::take(&mut line));
                most = whole.saturating_sub(hang).max(1);
                taken = 0;
            }
            line.push(character);
            taken += needs;
        }
    }
    let rest = line.trim_end_matches(' ');
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_in_long_words() {
        assert_eq!(wrap("250 2.0.0 Ok", 20, 0), ["250 2.0.0 Ok"]);
        assert_eq!(
            wrap("250 2.0.0 Ok: taken", 10, 0),
            ["250 2.0.0", "Ok: taken"]
        );
        assert_eq!(wrap("abcdefghij kl", 4, 0), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("", 4, 0), [""]);
        assert_eq!(wrap("a b c d e f", 5, 2), ["a b c", "d e", "f"]);
        assert_eq!(wrap("漢字漢字", 5, 0), ["漢字", "漢字"]);
    }

    proptest::proptest! {
        #[test]
        fn wrapping_loses_only_spaces(text in "\\PC{0,80}", most in 4_usize..30, hang in 0_usize..3) {
            let lines = wrap(&text, most, hang);
            for (number, line) in lines.iter().enumerate() {
                let most = if number == 0 { most } else { most - hang };
                proptest::prop_assert!(width(line) <= most, "{line:?} is wider than {most}");
            }
            let bare = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            proptest::prop_assert_eq!(bare(&lines.concat()), bare(&text));
        }
    }

    #[test]
    fn a_reply_cannot_steer_the_terminal() {
        assert_eq!(
            harmless("550 \x1b[2Jno\r\u{202e}", true),
            "550 \\u{1b}[2Jno\\r\\u{202e}"
        );
        assert_eq!(harmless("Grüße", true), "Grüße");
        assert_eq!(harmless("Grüße", false), "Gr\\u{fc}\\u{df}e");
    }
}
