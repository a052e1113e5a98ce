//! The bodies of the fuzz targets: they take any bytes and panic where a promise is broken.

use postrider_smtp::address::{Address, ForwardPath, ReversePath};
use postrider_smtp::client::{ClientConfig, Message, Outcome, TlsUse};
use postrider_smtp::command::Command;
use postrider_smtp::credentials::Credentials;
use postrider_smtp::data::{ContentDecoder, ContentLimits, DotStuffer, Piece};
use postrider_smtp::envelope::{Envelope, Recipient};
use postrider_smtp::extension::Extensions;
use postrider_smtp::reply::{Reply, ReplyParser};
use postrider_smtp::server::Transport;

use super::client::Client;
use super::server::{self, Pause, Server};

/// Parse after print is the identity, and the ASCII form is one.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(address) = Address::parse(text) {
        assert_eq!(address.as_str(), text);
        assert!(!text.contains(['\r', '\n', '\0']));
        let ascii = address.domain_ascii();
        assert!(ascii.is_ascii() && !ascii.contains(|c: char| c.is_ascii_uppercase()));
        if let Some(ascii) = address.to_ascii() {
            assert_eq!(Address::parse(ascii.as_str()), Ok(ascii.clone()));
            assert_eq!(ascii.domain_ascii(), address.domain_ascii());
        }
        let shown = address.to_unicode();
        assert_eq!(shown.domain_ascii(), address.domain_ascii());
    }
    if let Ok(path) = ReversePath::parse(text) {
        assert_eq!(ReversePath::parse(path.as_str()), Ok(path.clone()));
    }
    if let Ok(path) = ForwardPath::parse(text) {
        assert_eq!(ForwardPath::parse(path.as_str()), Ok(path.clone()));
    }
}

/// Parse after print is the identity; every error has a reply that refuses.
pub fn command(data: &[u8]) {
    let offered = Extensions::COMMON
        .and(Extensions::AUTH)
        .and(Extensions::FUTURE_RELEASE)
        .and(Extensions::MT_PRIORITY);
    match Command::parse(data, offered) {
        Ok(Command::Mail(path, parameters)) => {
            let printed = format!("MAIL FROM:{path}{parameters}");
            let again = Command::parse(printed.as_bytes(), offered);
            assert_eq!(again, Ok(Command::Mail(path, parameters)));
        }
        Ok(Command::Rcpt(path, parameters)) => {
            let printed = format!("RCPT TO:{path}{parameters}");
            let again = Command::parse(printed.as_bytes(), offered);
            assert_eq!(again, Ok(Command::Rcpt(path, parameters)));
        }
        Ok(_) => {}
        Err(error) => assert!(error.reply().is_permanent()),
    }
}

/// Any cut gives the same replies; what is printed of them is parsed as the same.
pub fn reply(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let (whole, good) = replies(&[data]);
    let (cut, cut_good) = replies(&super::cut(data, &[cut]));
    // A line that is too long is noticed at different places; what came before is the same.
    if good && cut_good {
        assert_eq!(whole, cut);
    }
    for reply in whole {
        let mut printed = Vec::new();
        reply.write_to(&mut printed);
        let (again, good) = replies(&[&printed]);
        assert!(good && again.len() == 1);
        assert_eq!(again[0].code(), reply.code());
    }
}

/// The replies in a stream, and whether it was well-formed.
pub fn replies(pieces: &[&[u8]]) -> (Vec<Reply>, bool) {
    let (mut parser, mut buffer, mut replies) = (ReplyParser::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.receive(&buffer) {
                Ok((consumed, reply)) => {
                    buffer.drain(..consumed);
                    match reply {
                        Some(reply) => replies.push(reply),
                        None => break,
                    }
                }
                Err(_) => return (replies, false),
            }
        }
    }
    (replies, true)
}

/// Content comes out as it went in, whatever the cuts; bare line ends as CRLF.
pub fn data_roundtrip(data: &[u8]) {
    let Some((&cut, content)) = data.split_first() else {
        return;
    };
    let (mut stuffer, mut wire) = (DotStuffer::new(), Vec::new());
    for piece in super::cut(content, &[cut, 1, cut / 2]) {
        stuffer.encode(piece, &mut wire);
    }
    stuffer.finish(&mut wire);
    let limits = ContentLimits { size: 0, line: 0 };
    let mut decoder = ContentDecoder::new(limits);
    let (mut decoded, mut ended) = (Vec::new(), false);
    for piece in super::cut(&wire, &[cut / 3, cut]) {
        let mut rest = piece;
        loop {
            assert!(!ended, "the end came before the end");
            let (consumed, piece) = decoder.decode(rest);
            rest = &rest[consumed..];
            match piece {
                Piece::Content(piece) => decoded.extend_from_slice(piece),
                Piece::Refused(problem) => panic!("{problem:?}"),
                Piece::NeedMore => break,
                Piece::End => {
                    ended = true;
                    assert!(rest.is_empty());
                    break;
                }
            }
        }
    }
    assert!(ended);
    assert_eq!(decoded, normalized(content));
}

/// Content as it is meant: bare CR and LF as CRLF, and a CRLF at the end.
pub fn normalized(content: &[u8]) -> Vec<u8> {
    let mut normal = Vec::new();
    let mut bytes = content.iter().peekable();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if(|next| **next == b'\n');
                normal.extend_from_slice(b"\r\n");
            }
            b'\n' => normal.extend_from_slice(b"\r\n"),
            _ => normal.push(byte),
        }
    }
    if !normal.is_empty() && !normal.ends_with(b"\r\n") {
        normal.extend_from_slice(b"\r\n");
    }
    normal
}

/// Any bytes from a client: proper replies, bounded buffers, the same for any cut, and a 250 for
/// a message only if it was stored. The first two bytes choose configuration and cut.
pub fn server_session(data: &[u8]) {
    let [choice, cut, data @ ..] = data else {
        return;
    };
    let whole = run_server(*choice, &[data]);
    let cut = run_server(*choice, &super::cut(data, &[*cut]));
    assert_eq!(whole.0, cut.0);
    assert_eq!(whole.1, cut.1);
}

fn run_server(choice: u8, pieces: &[&[u8]]) -> (Vec<u8>, Vec<server::Stored>) {
    let mut config = server::config();
    config.content.size = 1000;
    config.content.line = 200;
    config.limits.recipients = 3;
    config.limits.command_line = 512;
    config.auth_required = choice & 1 != 0;
    let transport = if choice & 2 != 0 {
        Transport::Tls
    } else {
        Transport::Plain
    };
    let limit = config.limits.auth_line;
    let mut server = Server::new(config, transport);
    let mut said = server.take_output();
    for piece in pieces {
        server.receive(piece);
        said.extend(server.take_output());
        if server.pause == Pause::Handshake {
            // What else is in this piece is gone, so cuts would make a difference.
            break;
        }
        assert!(server.pause == Pause::Closed || server.buffered() < limit);
    }
    let (replies, good) = replies(&[&said]);
    assert!(good, "malformed replies");
    let queued = replies
        .iter()
        .filter(|reply| reply.text().starts_with("Queued as"))
        .count();
    assert_eq!(queued, server.stored.len());
    (said, server.stored)
}

/// Any bytes from a server: one outcome a recipient, delivered only on a 2yz.
/// The first two bytes choose configuration and cut.
pub fn client_session(data: &[u8]) {
    let [choice, cut, data @ ..] = data else {
        return;
    };
    let mut config = ClientConfig::new("client.test");
    if choice & 1 != 0 {
        config.tls = TlsUse::Never;
    }
    if choice & 2 != 0 {
        config.credentials = Some(Credentials::new("bob", "secret"));
    }
    let transport = if choice & 4 != 0 {
        Transport::Tls
    } else {
        Transport::Plain
    };
    let mut client = Client::new(config, transport);
    let recipients = usize::from(choice >> 4);
    let mut begun = 0;
    for piece in super::cut(data, &[*cut]) {
        client.receive(piece);
        match client.pause {
            super::client::Pause::Input => {}
            super::client::Pause::Handshake => client.tls_established(),
            super::client::Pause::Ready if begun < 3 => {
                begun += 1;
                client.send(message(recipients), b".\r\nHello\r\n", &[3]);
            }
            super::client::Pause::Ready => client.quit(),
            super::client::Pause::Closed => break,
        }
        let said = client.take_output();
        assert!(said.is_empty() || said.ends_with(b"\r\n"));
    }
    client.lost("the test is over");
    assert_eq!(client.pause, super::client::Pause::Closed);
    assert_eq!(client.finished.len(), begun);
    for outcome in client.finished.iter().flatten() {
        match outcome {
            Outcome::Delivered(reply) => assert!(reply.is_positive()),
            Outcome::Deferred(failure) => {
                assert!(failure.reply.is_transient() || failure.reply.code() == 552)
            }
            Outcome::Failed(failure) => assert!(failure.reply.is_permanent()),
            Outcome::Unknown(_) | Outcome::NextTransaction(_) => {}
        }
    }
    assert!(
        client
            .finished
            .iter()
            .all(|outcomes| outcomes.len() == recipients)
    );
}

fn message(recipients: usize) -> Message {
    let path = ForwardPath::parse("alice@example.org").expect("a good path");
    let recipient = Recipient {
        path,
        parameters: Default::default(),
    };
    let envelope = Envelope {
        reverse_path: ReversePath::Null,
        parameters: Default::default(),
        recipients: vec![recipient; recipients],
    };
    Message {
        envelope: envelope.into(),
        size: 10,
    }
}
