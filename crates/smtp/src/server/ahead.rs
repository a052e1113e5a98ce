//! A look at what a client has pipelined.

use crate::address::ForwardPath;
use crate::command::Command;
use crate::extension::Extensions;

/// The recipients that a client has named in the commands at the start of `input`, up to the first
/// command that is no RCPT or the first line that is not complete. Their turn has not come, and they
/// may still be refused; but whoever has to ask somebody else about them can ask about all at once.
pub fn recipients_ahead(input: &[u8]) -> impl Iterator<Item = ForwardPath> {
    let mut rest = input;
    core::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        let line = line.strip_suffix(b"\r\n")?;
        // Whether a parameter was offered is looked at when the turn has come.
        match Command::parse(line, Extensions::COMMON) {
            Ok(Command::Rcpt(path, _)) => Some(path),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn ahead(input: &[u8]) -> Vec<String> {
        recipients_ahead(input)
            .map(|path| path.as_str().into())
            .collect()
    }

    #[test]
    fn recipients_up_to_another_command() {
        let input = b"RCPT TO:<a@x.test>\r\nrcpt to:<b@x.test> NOTIFY=NEVER\r\nDATA\r\nRCPT TO:<c@x.test>\r\n";
        assert_eq!(ahead(input), ["a@x.test", "b@x.test"]);
        assert_eq!(ahead(b"RCPT TO:<a@x.test>\r\nRCPT TO:<b@x.t"), ["a@x.test"]);
        for none in [
            &b""[..],
            b"RCPT",
            b"RCPT TO:<a@x.test>\n",
            b"RCPT TO:<a>\r\n",
            b"\r\n",
            b"DATA\r\n",
        ] {
            assert!(ahead(none).is_empty(), "{none:?}");
        }
    }
}
