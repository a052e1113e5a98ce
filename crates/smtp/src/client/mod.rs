//! The sending session: a client's end of the dialogue.
//!
//! [`Session`] is a state machine. It takes the server's bytes and gives back events; its
//! commands go to the driver's [`Output`](crate::output::Output). It brings a connection to the
//! point where mail may be sent ([`Event::Ready`]: greeting, EHLO, STARTTLS, AUTH), then sends
//! any number of transactions over it. MAIL, all RCPTs and DATA leave in one write where the
//! server offers PIPELINING (RFC 2920). Each recipient gets an outcome of its own.
//!
//! # How a driver uses it
//! ```text
//! let mut session = Session::new(config, Transport::Plain);
//! loop {
//!     write_all(&mut output.bytes).await?;
//!     let (consumed, event) = session.receive(&input, &mut output);
//!     input.advance(consumed);
//!     match event {
//!         // Write the output, then read with the deadline of the phase.
//!         Event::NeedMore => {
//!             write_all(&mut output.bytes).await?;
//!             match timeout(session.phase().recommended_timeout(), read(&mut input)).await {
//!                 Ok(Ok(n)) if n > 0 => {}
//!                 _ => session.connection_lost("timed out", …) → Event::Failed or Finished next
//!             }
//!         }
//!         Event::StartTls => { handshake; session.tls_established(&mut output) }
//!         // The session may carry a transaction. Between two of them the connection may rest.
//!         Event::Ready => match next_message() {
//!             Some(message) => session.begin(message, &mut output),
//!             None => session.quit(&mut output),
//!         },
//!         // The server said 354: send the content in chunks of any size, then its end.
//!         Event::SendContent => {
//!             for chunk in body {
//!                 session.content(&chunk, &mut output);
//!                 write_all(&mut output.bytes).await?;       // large bodies: as it comes
//!             }
//!             session.end_of_content(&mut output);           // the final dot goes with the last write
//!         }
//!         // The transaction is over: one outcome a recipient, in the order of the envelope.
//!         // `Ready` follows if the connection can be used again, `Closed` if not.
//!         Event::Finished(outcomes) => report(outcomes),
//!         // It never came to a transaction: refused, or no TLS, or no AUTH.
//!         Event::Failed(failure) => try the next host,
//!         Event::Closed => return,
//!     }
//! }
//! ```
//!
//! # Decisions
//! - Content with octets above 127 goes as it is to a server without 8BITMIME. Such servers are
//!   few and pass it on unharmed, and the alternative is to bounce.
//! - A message that needs SMTPUTF8 fails with 5.6.7 where the server has none. International
//!   domains alone do not need it: they are sent as A-labels.
//! - 452 4.5.3 to a RCPT after others were accepted means *too many recipients* (RFC 5321 section
//!   4.5.3.1.10): the outcome is [`Outcome::NextTransaction`], for the driver to send in another
//!   transaction at once.

mod config;
mod event;
mod login;
mod offer;
mod phase;
mod session;
mod transaction;
mod wording;

pub use config::{ClientConfig, TlsUse};
pub use event::{Event, Failure, FailureKind, Message, Outcome};
pub use offer::Offer;
pub use phase::Phase;
pub use session::Session;

pub use crate::server::Transport;
