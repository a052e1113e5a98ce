//! From rows to lines of text.

use super::ink::{self, ASCII, Glyphs, Tone, UNICODE};
use super::text::{harmless, width, wrap};
use super::{Lane, Mark, Phase, Row, Wire};
use crate::term::Style;

/// Columns for the time, with the space after it.
const TIME: usize = 9;
/// The text gets at least this much before life lines are moved apart.
const TEXT_WANTED: usize = 46;
/// Where a text goes on, it is set in by so much, so that it does not look like another.
const HANG: usize = 2;
/// Explanations are set no wider than this, for the eye.
const PROSE: usize = 96;

/// A place to draw on: who takes part, and how wide it is.
#[derive(Debug, Clone)]
pub struct Canvas {
    style: Style,
    glyphs: Glyphs,
    lanes: Vec<Lane>,
    active: Vec<bool>,
    pitch: usize,
}

impl Canvas {
    /// A canvas for these lanes.
    #[must_use]
    pub fn new(style: Style, lanes: Vec<Lane>) -> Self {
        let room = style.width.saturating_sub(TIME + 2 + TEXT_WANTED);
        let widest = if lanes.len() > 6 { 6 } else { 9 };
        Self {
            style,
            glyphs: if style.unicode { UNICODE } else { ASCII },
            active: vec![true; lanes.len()],
            pitch: (room / lanes.len().max(1)).clamp(3, widest),
            lanes,
        }
    }

    /// Everyone with what is said about them: names as a staircase, each over its life line.
    #[must_use]
    pub fn map(&self) -> Vec<String> {
        let label_end = (0..self.lanes.len())
            .filter(|lane| !self.lanes[*lane].about.is_empty())
            .map(|lane| self.column(lane) + width(&self.lanes[lane].name))
            .max()
            .unwrap_or(0);
        self.staircase(|lane| {
            let about = self.clean(&self.lanes[lane].about);
            if about.is_empty() {
                return String::new();
            }
            let start = self.column(lane) + width(&self.lanes[lane].name);
            let gap = (label_end + 2).saturating_sub(start);
            format!("{}{}", " ".repeat(gap), self.tone(Tone::Note, &about))
        })
    }

    /// Begins a phase: its heading, and from here on its lanes are the active ones.
    pub fn phase(&mut self, phase: &Phase) -> Vec<String> {
        for (lane, active) in self.active.iter_mut().enumerate() {
            *active = phase.active.contains(&lane);
        }
        let rule = |count: usize| self.glyphs.rule.to_string().repeat(count);
        let title = self.clean(&phase.title);
        let head = format!("{} {} ", rule(2), phase.number);
        let taken = width(&head) + width(&title) + 1;
        let tail = rule(self.style.width.saturating_sub(taken + 1).max(2));
        let mut lines = vec![
            String::new(),
            format!(
                "{}{} {}",
                self.tone(Tone::Note, &head),
                self.tone(Tone::Heading, &title),
                self.tone(Tone::Note, &tail)
            ),
        ];
        let prose = self.style.width.min(PROSE);
        if !phase.explanation.is_empty() {
            let explanation = self.clean(&phase.explanation);
            lines.extend(wrap(&explanation, prose.saturating_sub(1), 0));
        }
        lines.push(String::new());
        lines.extend(self.staircase(|_| String::new()));
        lines
    }

    /// One row; more lines than one where its text is long.
    #[must_use]
    pub fn row(&self, row: &Row) -> Vec<String> {
        let text = self.clean(&row.text);
        let room = self.style.width.saturating_sub(self.text_column());
        let time = format!("{:>width$} ", row.time, width = TIME - 1);
        let mut lines = Vec::new();
        for (number, part) in wrap(&text, room.max(16), HANG).into_iter().enumerate() {
            let (time, mark) = match number {
                0 => (self.tone(Tone::Note, &time), row.mark),
                _ => (" ".repeat(TIME), Mark::Lines),
            };
            let indent = " ".repeat(if number > 0 { HANG } else { 0 });
            let line = format!(
                "{time}{}  {indent}{}",
                self.picture(mark),
                self.tone(row.tone, &part)
            );
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// A line of text below the diagram, by tone.
    #[must_use]
    pub fn say(&self, tone: Tone, text: &str) -> Vec<String> {
        let room = self.style.width.min(PROSE).saturating_sub(1);
        wrap(&self.clean(text), room, 0)
            .iter()
            .map(|line| self.tone(tone, line))
            .collect()
    }

    /// Whether something held: a mark and the text, set in.
    #[must_use]
    pub fn verdict(&self, held: bool, text: &str) -> Vec<String> {
        let (mark, tone) = match (held, self.style.unicode) {
            (true, true) => (" \u{2714} ", Tone::Good),
            (true, false) => (" ok ", Tone::Good),
            (false, true) => (" \u{2718} ", Tone::Bad),
            (false, false) => (" NO ", Tone::Bad),
        };
        let room = self.style.width.min(PROSE).saturating_sub(width(mark) + 1);
        wrap(&self.clean(text), room, 0)
            .iter()
            .enumerate()
            .map(|(number, line)| match number {
                0 => format!("{}{line}", self.tone(tone, mark)),
                _ => format!("{}{line}", " ".repeat(width(mark))),
            })
            .collect()
    }

    /// Which line is what.
    #[must_use]
    pub fn legend(&self) -> String {
        let sample = |wire: Wire| {
            let [shaft, leave, ..] = self.glyphs.shafts[wire as usize];
            format!(
                "{leave}{shaft}{shaft}{}{}",
                self.glyphs.right, self.glyphs.active
            )
        };
        let text = format!(
            "{} plain   {} under TLS   {} inside a server",
            sample(Wire::Plain),
            sample(Wire::Tls),
            sample(Wire::Inside)
        );
        self.tone(Tone::Note, &text)
    }

    fn clean(&self, text: &str) -> String {
        harmless(text, self.style.unicode)
    }

    fn tone(&self, tone: Tone, text: &str) -> String {
        ink::tone(self.style.colour, tone, text)
    }

    /// The column of a life line, counted from where the lines begin.
    fn column(&self, lane: usize) -> usize {
        lane * self.pitch
    }

    /// Where texts begin.
    fn text_column(&self) -> usize {
        TIME + self.column(self.lanes.len().saturating_sub(1)) + 3
    }

    /// The names of the active lanes, one a line, each over its life line; then the bare lines.
    fn staircase(&self, beside: impl Fn(usize) -> String) -> Vec<String> {
        let mut lines = Vec::new();
        for lane in (0..self.lanes.len()).filter(|lane| self.active[*lane]) {
            let mut line = " ".repeat(TIME);
            for left in 0..lane {
                let glyph = if self.active[left] {
                    self.glyphs.active
                } else {
                    ' '
                };
                line += &self.in_group(left, &glyph.to_string());
                line += &" ".repeat(self.pitch - 1);
            }
            line += &self.in_group(lane, &self.clean(&self.lanes[lane].name));
            line += &beside(lane);
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    fn in_group(&self, lane: usize, text: &str) -> String {
        ink::paint(self.style.colour, ink::group(self.lanes[lane].group), text)
    }

    /// The life lines with what is between them.
    fn picture(&self, mark: Mark) -> String {
        let mut out = String::new();
        for lane in 0..self.lanes.len() {
            let (glyph, on_arrow) = self.at_lane(mark, lane);
            if on_arrow {
                out += &self.in_group(speaker(mark).unwrap_or(lane), &glyph.to_string());
            } else if self.active[lane] {
                out += &self.in_group(lane, &glyph.to_string());
            } else {
                out += &self.tone(Tone::Note, &glyph.to_string());
            }
            if lane + 1 < self.lanes.len() {
                out += &self.between(mark, lane);
            }
        }
        out
    }

    /// What stands at a life line, and whether it belongs to the arrow.
    fn at_lane(&self, mark: Mark, lane: usize) -> (char, bool) {
        let bare = if self.active[lane] {
            self.glyphs.active
        } else {
            self.glyphs.idle
        };
        match mark {
            Mark::Dot(at) if at == lane => (self.glyphs.dot, true),
            Mark::Arrow { from, to, wire } => {
                let [_, leaves_right, leaves_left, passes] = self.glyphs.shafts[wire as usize];
                if lane == from && from != to {
                    (if to > from { leaves_right } else { leaves_left }, true)
                } else if lane > from.min(to) && lane < from.max(to) {
                    (passes, true)
                } else {
                    (bare, false)
                }
            }
            Mark::Dot(_) | Mark::Lines => (bare, false),
        }
    }

    /// What stands between a life line and the next.
    fn between(&self, mark: Mark, lane: usize) -> String {
        let gap = self.pitch - 1;
        let Mark::Arrow { from, to, wire } = mark else {
            return " ".repeat(gap);
        };
        if lane < from.min(to) || lane >= from.max(to) {
            return " ".repeat(gap);
        }
        let shaft = self.glyphs.shafts[wire as usize][0].to_string();
        let piece = if to > from && lane + 1 == to {
            format!("{}{}", shaft.repeat(gap - 1), self.glyphs.right)
        } else if to < from && lane == to {
            format!("{}{}", self.glyphs.left, shaft.repeat(gap - 1))
        } else {
            shaft.repeat(gap)
        };
        self.in_group(from, &piece)
    }
}

/// The lane whose colour a mark has.
fn speaker(mark: Mark) -> Option<usize> {
    match mark {
        Mark::Arrow { from, .. } => Some(from),
        Mark::Dot(lane) => Some(lane),
        Mark::Lines => None,
    }
}
