//! What the output goes to: how wide it is, and whether it can show colours and box drawing.

use std::io::IsTerminal;

/// The width for pipes and files, where nobody says how wide they are.
const WIDTH_UNKNOWN: usize = 100;
/// Narrower than this nothing can be drawn; lines then simply overflow.
const WIDTH_LEAST: usize = 60;
/// Wider than this, the eye loses the line.
const WIDTH_MOST: usize = 160;

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns that may be used.
    pub width: usize,
    /// Escape sequences for colours may be used.
    pub colour: bool,
    /// Characters beyond ASCII may be used.
    pub unicode: bool,
}

impl Style {
    /// The style of standard output.
    #[must_use]
    pub fn of_stdout() -> Self {
        let choice = anstream::AutoStream::choice(&std::io::stdout());
        Self {
            width: width(),
            colour: choice != anstream::ColorChoice::Never,
            unicode: unicode(|name| std::env::var(name).ok()),
        }
    }

    /// No colours, no characters beyond ASCII.
    #[must_use]
    pub const fn plain(width: usize) -> Self {
        Self {
            width,
            colour: false,
            unicode: false,
        }
    }
}

/// Whether somebody watches standard output.
#[must_use]
pub fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

fn width() -> usize {
    let by_terminal = rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0);
    let by_environment = || std::env::var("COLUMNS").ok()?.parse().ok();
    by_terminal
        .or_else(by_environment)
        .unwrap_or(WIDTH_UNKNOWN)
        .clamp(WIDTH_LEAST, WIDTH_MOST)
}

/// The locale says which characters the reader can see. Where none is set at all, as in many
/// containers, the terminal at the other end nearly always shows UTF-8.
fn unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    if variable("TERM").is_some_and(|term| term == "dumb") {
        return false;
    }
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        .is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> bool {
        unicode(|name| {
            pairs
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_locale_decides_about_box_drawing() {
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", "C.utf8"), ("LANG", "C")]));
        assert!(with(&[]));
        assert!(!with(&[("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "POSIX"), ("LANG", "de_DE.UTF-8")]));
        assert!(!with(&[("TERM", "dumb"), ("LANG", "de_DE.UTF-8")]));
    }
}
