//! From a connection that was accepted to a session that is greeted: who may come in at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use crate::admission::Ticket;
use crate::clerk::Clerk;
use crate::config::Role;
use crate::connection::{Connection, HandshakeError, Stream};
use crate::driver::Driver;
use crate::edge::Shared;
use crate::policy::{Client, ConnectFacts};
use crate::settings::Settings;

/// Serves one connection from its greeting to its end.
pub(crate) async fn run(shared: Arc<Shared>, role: Role, stream: Stream, peer: IpAddr) {
    let settings = shared.settings();
    let trusted = settings
        .config
        .trusted_networks
        .iter()
        .any(|network| network.contains(&peer));
    let client = Client::new(peer, role, trusted);
    let ticket = shared.admission.enter(peer);
    let mut connection = Connection::new(stream, shared.stop.clone());
    shared.metrics(role).opened();
    if admit(&settings, &client, &ticket, &mut connection).await
        && (!role.is_implicit_tls()
            || Box::pin(handshake(&shared, &settings, &client, &mut connection)).await)
    {
        debug!(client = %peer, %role, "connected");
        let clerk = Clerk::new(Arc::clone(&shared), settings, client);
        // Boxed: what a refused connection never needs.
        Box::pin(Driver::new(clerk, connection).drive()).await;
        debug!(client = %peer, %role, "closed");
    }
    shared.metrics(role).closed();
}

/// Asks policy whether the client may connect. One that may not is told so and closed at once,
/// whatever it does: a flood must not be paid for with waiting tasks.
async fn admit(
    settings: &Settings,
    client: &Client,
    ticket: &Ticket,
    connection: &mut Connection,
) -> bool {
    let facts = ConnectFacts {
        client,
        connections: ticket.connections,
        connections_of_client: ticket.connections_of_client,
    };
    let Err(refusal) = settings.chain.connect(&facts) else {
        return true;
    };
    info!(
        client = %client.address,
        role = %client.role,
        reason = refusal.reason,
        reply = %refusal.reply,
        "connection refused"
    );
    // Under implicit TLS the reply would cost a handshake.
    if !client.role.is_implicit_tls() {
        let mut octets = Vec::new();
        refusal.reply.write_to(&mut octets);
        connection.write(&octets, Duration::ZERO).await;
    }
    false
}

/// Does the TLS handshake, and counts what came of it. Returns whether TLS is established.
pub(crate) async fn handshake(
    shared: &Shared,
    settings: &Settings,
    client: &Client,
    connection: &mut Connection,
) -> bool {
    let config = shared.certificate.server_config();
    let wait = settings.config.timeouts.tls_handshake.0;
    let (outcome, done) = match connection.start_tls(config, wait).await {
        Ok(()) => ("established", true),
        Err(HandshakeError::Failed(error)) => {
            debug!(client = %client.address, %error, "TLS handshake failed");
            ("failed", false)
        }
        Err(HandshakeError::TimedOut) => {
            debug!(client = %client.address, "TLS handshake took too long");
            ("timeout", false)
        }
    };
    shared.metrics(client.role).handshake(outcome);
    done
}
