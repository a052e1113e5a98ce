//! The file of an exported queue: frames, each with its length and checksum, between a magic and
//! a frame with the totals. Made and read front to back, so that it may be larger than memory.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | magic and version, `postexp1` |
//! | then frames: 0 | kind |
//! | 1..5 | length of the payload, little endian |
//! | 5..9 | CRC-32 of kind, length and payload |
//! | 9.. | payload |

use bytes::Bytes;
use postrider_protocol::queue_v1::{ExportedMessage, Suspension};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const MAGIC: &[u8; 8] = b"postexp1";
const HEADER: usize = 9;
/// No frame is longer: a message with its inline body and a long journey is far below.
const LONGEST: usize = 256 << 20;

/// The first frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Begin {
    /// The version of Postrider that wrote the file.
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(fixed64, tag = "2")]
    pub(super) created_us: u64,
    /// The store that it was taken from, e.g. "embedded".
    #[prost(string, tag = "3")]
    pub(super) store: String,
}

/// A stored body follows in pieces.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BodyBegin {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) size: u64,
}

/// A record that the queue keeps beside its mail.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Kept {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) value: Bytes,
}

/// What is in a file; the last frame. What was read must come to the same.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Totals {
    /// Queued messages.
    #[prost(uint64, tag = "1")]
    pub messages: u64,
    /// Their deliveries that have not ended.
    #[prost(uint64, tag = "2")]
    pub deliveries: u64,
    /// The open recipients of these.
    #[prost(uint64, tag = "3")]
    pub recipients: u64,
    /// Stored bodies.
    #[prost(uint64, tag = "4")]
    pub bodies: u64,
    /// Bytes of stored bodies.
    #[prost(uint64, tag = "5")]
    pub body_bytes: u64,
    /// Suspensions.
    #[prost(uint64, tag = "6")]
    pub suspensions: u64,
    /// Records beside the mail.
    #[prost(uint64, tag = "7")]
    pub records: u64,
}

impl Totals {
    /// Counts a frame.
    pub(super) fn count(&mut self, frame: &Frame) {
        match frame {
            Frame::Message(message) => {
                self.messages += 1;
                self.deliveries += message.deliveries.len() as u64;
                let recipients = message.deliveries.iter();
                self.recipients += recipients
                    .map(|delivery| delivery.recipients.len() as u64)
                    .sum::<u64>();
            }
            Frame::BodyBegin(_) => self.bodies += 1,
            Frame::BodyPiece(piece) => self.body_bytes += piece.len() as u64,
            Frame::Suspension(_) => self.suspensions += 1,
            Frame::Kept(_) => self.records += 1,
            Frame::Begin(_) | Frame::BodyEnd | Frame::End(_) => {}
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Frame {
    Begin(Begin),
    Suspension(Suspension),
    Kept(Kept),
    BodyBegin(BodyBegin),
    BodyPiece(Bytes),
    BodyEnd,
    Message(Box<ExportedMessage>),
    End(Totals),
}

impl Frame {
    /// The number of its kind. Numbers are never reused.
    fn kind(&self) -> u8 {
        match self {
            Self::Begin(_) => 1,
            Self::Suspension(_) => 2,
            Self::Kept(_) => 3,
            Self::BodyBegin(_) => 4,
            Self::BodyPiece(_) => 5,
            Self::BodyEnd => 6,
            Self::Message(_) => 7,
            Self::End(_) => 8,
        }
    }

    fn payload(&self) -> Bytes {
        match self {
            Self::Begin(frame) => frame.encode_to_vec().into(),
            Self::Suspension(frame) => frame.encode_to_vec().into(),
            Self::Kept(frame) => frame.encode_to_vec().into(),
            Self::BodyBegin(frame) => frame.encode_to_vec().into(),
            Self::BodyPiece(piece) => piece.clone(),
            Self::BodyEnd => Bytes::new(),
            Self::Message(frame) => frame.encode_to_vec().into(),
            Self::End(frame) => frame.encode_to_vec().into(),
        }
    }

    fn decode(kind: u8, payload: Bytes) -> Result<Self, FileError> {
        let frame = match kind {
            1 => Self::Begin(Begin::decode(payload)?),
            2 => Self::Suspension(Suspension::decode(payload)?),
            3 => Self::Kept(Kept::decode(payload)?),
            4 => Self::BodyBegin(BodyBegin::decode(payload)?),
            5 => Self::BodyPiece(payload),
            6 => Self::BodyEnd,
            7 => Self::Message(Box::new(ExportedMessage::decode(payload)?)),
            8 => Self::End(Totals::decode(payload)?),
            _ => return Err(FileError::Foreign),
        };
        Ok(frame)
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("this is not a file of an exported queue")]
    NotOne,
    #[error(
        "it ends at byte {0}, before its totals: the export did not finish, or the file was cut"
    )]
    Cut(u64),
    #[error("the frame at byte {0} is damaged")]
    Damaged(u64),
    #[error("a later version of Postrider wrote it")]
    Foreign,
    #[error("a frame makes no sense: {0}")]
    Senseless(#[from] prost::DecodeError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Writes a file.
pub(super) struct Writer<W> {
    out: W,
    pub(super) totals: Totals,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) async fn begin(mut out: W, begin: Begin) -> Result<Self, FileError> {
        out.write_all(MAGIC).await?;
        let mut writer = Self {
            out,
            totals: Totals::default(),
        };
        writer.write(&Frame::Begin(begin)).await?;
        Ok(writer)
    }

    pub(super) async fn write(&mut self, frame: &Frame) -> Result<(), FileError> {
        let payload = frame.payload();
        let header = header(frame.kind(), &payload);
        self.out.write_all(&header).await?;
        self.out.write_all(&payload).await?;
        self.totals.count(frame);
        Ok(())
    }

    /// Writes the totals, and gives back what was written to.
    pub(super) async fn end(mut self) -> Result<(W, Totals), FileError> {
        let totals = self.totals;
        self.write(&Frame::End(totals)).await?;
        self.out.flush().await?;
        Ok((self.out, totals))
    }
}

fn header(kind: u8, payload: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = kind;
    header[1..5].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..5]);
    crc.update(payload);
    header[5..].copy_from_slice(&crc.finalize().to_le_bytes());
    header
}

/// Reads a file.
pub(super) struct Reader<R> {
    from: R,
    at: u64,
    pub(super) totals: Totals,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) async fn begin(from: R) -> Result<(Self, Begin), FileError> {
        let mut reader = Self {
            from,
            at: 0,
            totals: Totals::default(),
        };
        let mut magic = [0; MAGIC.len()];
        if !reader.fill(&mut magic).await? || magic[..7] != MAGIC[..7] {
            return Err(FileError::NotOne);
        }
        if magic != *MAGIC {
            return Err(FileError::Foreign);
        }
        match reader.next().await? {
            Frame::Begin(begin) => Ok((reader, begin)),
            _ => Err(FileError::NotOne),
        }
    }

    /// Fills the buffer; `false` if the file ends before.
    async fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, FileError> {
        match self.from.read_exact(buffer).await {
            Ok(got) => {
                self.at += got as u64;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame. The last one is [`Frame::End`].
    pub(super) async fn next(&mut self) -> Result<Frame, FileError> {
        let at = self.at;
        let mut head = [0; HEADER];
        if !self.fill(&mut head).await? {
            return Err(FileError::Cut(at));
        }
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > LONGEST {
            return Err(FileError::Damaged(at));
        }
        // A length that lies must not take the memory that it names.
        let mut payload = Vec::with_capacity(len.min(1 << 20));
        let got = (&mut self.from)
            .take(len as u64)
            .read_to_end(&mut payload)
            .await?;
        self.at += got as u64;
        if got < len {
            return Err(FileError::Cut(at));
        }
        if header(head[0], &payload) != head {
            return Err(FileError::Damaged(at));
        }
        let frame = Frame::decode(head[0], payload.into())?;
        self.totals.count(&frame);
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sample() -> Vec<u8> {
        let begin = Begin {
            version: "1".to_owned(),
            ..Begin::default()
        };
        let mut writer = Writer::begin(Vec::new(), begin).await.unwrap();
        for frame in frames() {
            writer.write(&frame).await.unwrap();
        }
        writer.end().await.unwrap().0
    }

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Kept(Kept {
                kind: "act".to_owned(),
                key: "k".to_owned(),
                value: Bytes::from_static(b"v"),
            }),
            Frame::BodyBegin(BodyBegin {
                name: "n".to_owned(),
                size: 3,
            }),
            Frame::BodyPiece(Bytes::from_static(b"abc")),
            Frame::BodyEnd,
            Frame::Message(Box::default()),
        ]
    }

    async fn read(bytes: &[u8]) -> Result<Vec<Frame>, FileError> {
        let (mut reader, _) = Reader::begin(bytes).await?;
        let mut frames = Vec::new();
        loop {
            let before = reader.totals;
            match reader.next().await? {
                Frame::End(totals) if totals == before => return Ok(frames),
                Frame::End(totals) => panic!("{totals:?}"),
                frame => frames.push(frame),
            }
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        assert_eq!(read(&sample().await).await.unwrap(), frames());
    }

    #[tokio::test]
    async fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = sample().await;
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).await.is_err(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut hurt = whole.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&hurt).await.is_err(), "bit {bit}");
        }
    }
}
