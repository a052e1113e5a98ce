//! Colours and glyphs.

use anstyle::{AnsiColor, Style as Ansi};

/// What a text is, and so how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A client's words, or any others that need no mark.
    Words,
    /// A positive reply.
    Good,
    /// A reply that asks for more (3yz).
    Middle,
    /// A temporary failure.
    Deferred,
    /// A permanent failure.
    Bad,
    /// Ours, not theirs.
    Note,
    /// A heading.
    Heading,
    /// What should be seen first.
    Strong,
}

impl Tone {
    /// The tone of a reply by its first digit (RFC 5321 section 4.2.1).
    #[must_use]
    pub fn of_reply(text: &str) -> Self {
        match text.as_bytes() {
            [b'2', ..] | [b'+', ..] => Self::Good,
            [b'3', ..] => Self::Middle,
            [b'4', ..] => Self::Deferred,
            [b'5' | b'-', ..] => Self::Bad,
            _ => Self::Words,
        }
    }

    fn ansi(self) -> Ansi {
        match self {
            Self::Words => Ansi::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Middle => AnsiColor::Cyan.on_default(),
            Self::Deferred => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Note => Ansi::new().dimmed(),
            Self::Heading => Ansi::new().bold(),
            Self::Strong => AnsiColor::Magenta.on_default().bold(),
        }
    }
}

const GROUPS: [AnsiColor; 5] = [
    AnsiColor::Cyan,
    AnsiColor::Blue,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
];

/// The colour of a group of lanes.
pub(super) fn group(group: u8) -> Ansi {
    GROUPS[usize::from(group) % GROUPS.len()].on_default()
}

/// The text in a colour, or bare where colours are not wanted.
pub(super) fn paint(colour: bool, ansi: Ansi, text: &str) -> String {
    if !colour || text.trim().is_empty() || ansi == Ansi::new() {
        text.to_owned()
    } else {
        format!("{ansi}{text}{ansi:#}")
    }
}

/// The text in the colour of a tone, or bare where colours are not wanted.
#[must_use]
pub fn tone(colour: bool, tone: Tone, text: &str) -> String {
    paint(colour, tone.ansi(), text)
}

/// The characters that a diagram is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glyphs {
    pub(super) active: char,
    pub(super) idle: char,
    pub(super) dot: char,
    pub(super) right: char,
    pub(super) left: char,
    pub(super) rule: char,
    /// By wire (plain, TLS, inside): the shaft, where it leaves to the right, to the left, and
    /// where it passes a life line.
    pub(super) shafts: [[char; 4]; 3],
}

pub(super) const UNICODE: Glyphs = Glyphs {
    active: '│',
    idle: '┊',
    dot: '●',
    right: '▶',
    left: '◀',
    rule: '━',
    shafts: [
        ['─', '├', '┤', '┼'],
        ['═', '╞', '╡', '╪'],
        ['╌', '├', '┤', '┼'],
    ],
};

pub(super) const ASCII: Glyphs = Glyphs {
    active: '|',
    idle: ':',
    dot: 'o',
    right: '>',
    left: '<',
    rule: '=',
    shafts: [
        ['-', '|', '|', '+'],
        ['=', '|', '|', '+'],
        ['.', '|', '|', '+'],
    ],
};
