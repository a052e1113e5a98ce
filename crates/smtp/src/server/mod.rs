//! The receiving session: a server's end of the dialogue.
//!
//! [`Session`] is a state machine. It takes bytes and gives back, one at a time, events: a
//! question that policy or store must answer, a piece of content, a handshake to do, the end.
//! Its replies go to the driver's [`Output`](crate::output::Output). It holds no input: what it
//! did not consume stays in the driver's buffer, also commands that a client pipelined (RFC 2920)
//! while an answer is due. Replies to pipelined commands batch up in the output until the session
//! needs more input, so a driver writes once a batch.
//!
//! # How a driver uses it
//! ```text
//! let mut session = Session::new(config, Transport::Plain);      // or Tls, after the handshake
//! let mut output = Output::with_outline();
//! let mut input = Buffer::new();                                 // empty while idle
//! loop {
//!     let (consumed, event) = session.receive(&input, &mut output);
//!     match event {
//!         // Everything that can be done is done: write, then read. The deadline is for the
//!         // whole wait (a command, a piece of content), not for each octet.
//!         Event::NeedMore => {
//!             write_all(&mut output.bytes).await?;
//!             input.advance(consumed);
//!             free(&mut input, &mut output.bytes) if they are empty;   // an idle session
//!             select! {
//!                 read(&mut input) => {}                          // end of stream: drop all
//!                 deadline(session.wait()) => session.time_out(&mut output),
//!                 shutdown => session.shut_down(&mut output),
//!             }
//!             continue;
//!         }
//!         // Policy. The answer is given before anything else is received.
//!         Event::Ask(Question::Rcpt { envelope, recipient }) => {
//!             let answer = policy.rcpt(envelope, recipient).await;    // Accept or Refuse(reply)
//!             session.answer(answer, &mut output);
//!         }
//!         // Zero-copy: a piece of the input.
//!         Event::Content(piece) => body.extend_from_slice(piece),
//!         // What was gathered is not needed; the session goes on by itself.
//!         Event::ContentDropped(why) => body.clear(),
//!         // Only `Stored` leads to a 250.
//!         Event::Ask(Question::EndOfMessage { envelope, content }) => {
//!             let answer = match queue.enqueue(envelope, take(&mut body)).await {
//!                 Ok(id) => Answer::Stored(id),
//!                 Err(_) => Answer::Refuse(Reply::new(451, EnhancedStatus::transient(3, 0), "…")),
//!             };
//!             session.answer(answer, &mut output);
//!         }
//!         Event::StartTls => {
//!             write_all(&mut output.bytes).await?;                // the 220
//!             input.clear();                                      // consumed says so too
//!             handshake().await?;
//!             session.tls_established();
//!             continue;
//!         }
//!         Event::Close => { write_all(&mut output.bytes).await?; return }
//!         ...
//!     }
//!     input.advance(consumed);
//! }
//! ```
//! The first event of a session is always `Ask(Question::Connection)`; call `receive` with no
//! input to get it.
//!
//! # What it refuses by itself
//! Syntax, order, sizes, AUTH without TLS, mail without AUTH or TLS where they are required,
//! content with bare line ends: see [`SessionConfig`]. BDAT (RFC 3030) carries octets, but since
//! BINARYMIME is not offered they are lines of text, and they travel on in DATA, which has no
//! form for a bare CR or LF. So content that came by BDAT must meet the same rules about lines.

mod ahead;
mod answer;
mod auth;
mod chunk;
mod config;
mod content;
mod event;
mod line;
mod session;
mod step;

pub use ahead::recipients_ahead;
pub use config::{Limits, SessionConfig, Submission, TlsPolicy};
pub use event::{Answer, DropReason, Event, Question};
pub use session::{Session, Transport, Wait};
