//! Where the demo is drawn: row after row, at a pace at which it can be watched.

use std::time::Duration;

use tokio::time::sleep;

use crate::diagram::{Canvas, Phase, Row, Tone};
use crate::out;

/// The rest between two rows for those who watch. It shows nothing but the drawing: times are
/// those of the dialogues, which run at their own speed.
const PACE: Duration = Duration::from_millis(16);
/// The rest before a phase, to read its heading.
const BREATH: Duration = Duration::from_millis(150);

/// A canvas on standard output.
pub(super) struct Stage {
    canvas: Canvas,
    paced: bool,
}

impl Stage {
    /// A stage that rests between rows if it is `paced`.
    #[must_use]
    pub(super) fn new(canvas: Canvas, paced: bool) -> Self {
        Self { canvas, paced }
    }

    /// The map of all who take part, and which line is what.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) async fn map(&self) -> std::io::Result<()> {
        out::lines(&self.canvas.map())?;
        out::lines(&["".to_owned(), self.canvas.legend()])?;
        self.rest(BREATH).await;
        Ok(())
    }

    /// Begins a phase.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) async fn phase(
        &mut self,
        number: u32,
        title: &str,
        explanation: &str,
        active: &[usize],
    ) -> std::io::Result<()> {
        self.rest(BREATH).await;
        let phase = Phase {
            number: number.to_string(),
            title: title.to_owned(),
            explanation: explanation.to_owned(),
            active: active.to_vec(),
        };
        out::lines(&self.canvas.phase(&phase))?;
        self.rest(BREATH).await;
        Ok(())
    }

    /// Draws rows.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) async fn rows(&self, rows: &[Row]) -> std::io::Result<()> {
        for row in rows {
            out::lines(&self.canvas.row(row))?;
            self.rest(PACE).await;
        }
        Ok(())
    }

    /// Says something below the drawing.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) async fn say(&self, tone: Tone, text: &str) -> std::io::Result<()> {
        out::lines(&self.canvas.say(tone, text))?;
        self.rest(PACE).await;
        Ok(())
    }

    /// Says whether something held.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) async fn verdict(&self, held: bool, text: &str) -> std::io::Result<()> {
        out::lines(&self.canvas.verdict(held, text))?;
        self.rest(BREATH).await;
        Ok(())
    }

    async fn rest(&self, time: Duration) {
        if self.paced {
            sleep(time).await;
        }
    }
}
