//! Sequence diagrams for the terminal.
//!
//! Those who take part stand side by side, each with a life line that runs down the page. A row
//! is one thing that happened: an arrow from one line to another, what was said at its right, the
//! time at its left. The lines of all who take part stand close together, so that even a journey
//! over ten of them fits into 80 columns and can be seen to wander from left to right.
//!
//! [`Canvas`] turns rows into lines of text and does nothing else: it knows no mail, and the same
//! rows give the same lines, which is how it is tested. [`text`] makes foreign words harmless.

mod ink;
mod layout;
pub mod text;

pub use ink::{Tone, tone as paint};
pub use layout::Canvas;

/// One who takes part, with a life line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The name at the head of the line, e.g. "Bob's queue".
    pub name: String,
    /// What the map says about it, e.g. where it listens.
    pub about: String,
    /// Lanes of one group (one server) share a colour.
    pub group: u8,
}

/// What an arrow goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// The network, readable by whoever sits on the way.
    Plain,
    /// The network, under TLS.
    Tls,
    /// A call between services of one server.
    Inside,
}

/// What a row shows between the life lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// From one lane to another, by index.
    Arrow {
        /// Whose words they are.
        from: usize,
        /// To whom.
        to: usize,
        /// Over what.
        wire: Wire,
    },
    /// Something that happened at one lane.
    Dot(usize),
    /// Nothing but the life lines.
    Lines,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The time as it is to be shown, at most eight columns; empty for none.
    pub time: String,
    /// The picture.
    pub mark: Mark,
    /// What was said.
    pub text: String,
    /// How the text is coloured.
    pub tone: Tone,
}

impl Row {
    /// An arrow with what was said.
    #[must_use]
    pub fn arrow(from: usize, to: usize, wire: Wire, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            time: String::new(),
            mark: Mark::Arrow { from, to, wire },
            tone: Tone::Words,
            text,
        }
    }

    /// Something that happened at a lane.
    #[must_use]
    pub fn dot(lane: usize, text: impl Into<String>) -> Self {
        Self {
            time: String::new(),
            mark: Mark::Dot(lane),
            text: text.into(),
            tone: Tone::Note,
        }
    }

    /// A remark beside the life lines.
    #[must_use]
    pub fn remark(text: impl Into<String>) -> Self {
        Self {
            time: String::new(),
            mark: Mark::Lines,
            text: text.into(),
            tone: Tone::Note,
        }
    }

    /// The row with a time.
    #[must_use]
    pub fn at(mut self, time: impl Into<String>) -> Self {
        self.time = time.into();
        self
    }

    /// The row with another tone.
    #[must_use]
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

/// A part of the journey with a heading of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// E.g. "1".
    pub number: String,
    /// E.g. "Bob submits".
    pub title: String,
    /// Sentences below the heading.
    pub explanation: String,
    /// The lanes that take part, in ascending order.
    pub active: Vec<usize>,
}
