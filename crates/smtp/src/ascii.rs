//! Questions about octets, answered for a whole line at once: without an early end these loops are
//! vectorised, and lines are short.

/// Printable ASCII and spaces only.
pub(crate) fn is_printable(octets: &[u8]) -> bool {
    octets
        .iter()
        .fold(true, |so_far, octet| so_far & (b' '..=b'~').contains(octet))
}

/// There is a control character of ASCII.
pub(crate) fn has_control(octets: &[u8]) -> bool {
    octets
        .iter()
        .fold(false, |so_far, octet| so_far | octet.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_is_one_or_the_other() {
        for octet in 0..=u8::MAX {
            let line = [b'a', octet, b'z'];
            assert_eq!(
                is_printable(&line),
                octet.is_ascii() && !octet.is_ascii_control()
            );
            assert_eq!(has_control(&line), octet.is_ascii_control());
        }
        assert!(is_printable(b"") && !has_control(b""));
    }
}
