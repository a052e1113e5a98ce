//! Lines to standard output. A reader that has seen enough (`| head`) is no error to tell of.

use std::io::Write;

/// Writes lines and flushes them, so that they are seen as they happen.
///
/// # Errors
/// Standard output cannot be written to; see [`is_closed`].
pub fn lines<T: AsRef<str>>(lines: &[T]) -> std::io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one line.
///
/// # Errors
/// As [`lines`].
pub fn line(text: impl std::fmt::Display) -> std::io::Result<()> {
    lines(&[text.to_string()])
}

/// Whether an error only says that nobody reads standard output any more.
#[must_use]
pub fn is_closed(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
