//! Ports that are taken, told before anything is opened, all at once and by the key to change.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use crate::settings::Settings;

/// An address that this process is going to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The address.
    pub address: SocketAddr,
    /// Where in the config it stands, e.g. `edge.listeners[0].address`.
    pub key: String,
    /// What for, e.g. "mx".
    pub purpose: String,
}

/// Every address that the configuration asks for.
#[must_use]
pub fn wanted(settings: &Settings) -> Vec<Wanted> {
    let edge = settings
        .edge
        .listeners
        .iter()
        .enumerate()
        .map(|(at, listener)| Wanted {
            address: listener.address,
            key: format!("edge.listeners[{at}].address"),
            purpose: listener.role.to_string(),
        });
    let pop3 = settings
        .mailbox
        .pop3
        .listeners
        .iter()
        .enumerate()
        .map(|(at, listener)| Wanted {
            address: listener.address,
            key: format!("mailbox.pop3.listeners[{at}].address"),
            purpose: match listener.role {
                postrider_mailbox::Pop3Role::Pop3 => "pop3".to_owned(),
                postrider_mailbox::Pop3Role::Pop3s => "pop3s".to_owned(),
            },
        });
    let telemetry = settings
        .telemetry
        .listen
        .iter()
        .enumerate()
        .map(|(at, address)| Wanted {
            address: *address,
            key: format!("telemetry.listen[{at}]"),
            purpose: "metrics and health".to_owned(),
        });
    let operators = Wanted {
        address: settings.services.queue_listen,
        key: "services.queue_listen".to_owned(),
        purpose: "operators' commands".to_owned(),
    };
    edge.chain(pop3)
        .chain(telemetry)
        .chain([operators])
        .collect()
}

/// Why addresses cannot be had, one problem each.
#[must_use]
pub fn problems(wanted: &[Wanted]) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, one) in wanted.iter().enumerate() {
        let twice = wanted[..at]
            .iter()
            .find(|other| other.address == one.address && one.address.port() != 0);
        if let Some(other) = twice {
            problems.push(format!(
                "{} stands in {} and in {}",
                one.address, other.key, one.key
            ));
            continue;
        }
        if let Err(error) = TcpListener::bind(one.address) {
            problems.extend(tell(one, &error));
        }
    }
    problems
}

fn tell(wanted: &Wanted, error: &std::io::Error) -> Option<String> {
    let Wanted {
        address,
        key,
        purpose,
    } = wanted;
    Some(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "{address} ({purpose}) is taken by another process; stop it, or set {key} to another port"
        ),
        ErrorKind::PermissionDenied => format!(
            "{address} ({purpose}) may not be used by this user; set {key} to a port above 1023, \
             or give the process CAP_NET_BIND_SERVICE"
        ),
        // "[::]" on a machine without IPv6 is taken as "0.0.0.0" by the services.
        _ if address.is_ipv6() && address.ip().is_unspecified() => return None,
        ErrorKind::AddrNotAvailable => {
            format!("{address} ({purpose}) is not an address of this machine; change {key}")
        }
        _ => format!("{address} ({purpose}, {key}): {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(address: SocketAddr, key: &str) -> Wanted {
        Wanted {
            address,
            key: key.to_owned(),
            purpose: "mx".to_owned(),
        }
    }

    #[test]
    fn all_taken_ports_are_told_with_their_keys() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        let [a, b] = [&first, &second].map(|listener| listener.local_addr().unwrap());
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let wanted = [
            want(a, "one"),
            want(free, "two"),
            want(free, "three"),
            want(b, "four"),
        ];
        let problems = problems(&wanted);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains(&a.to_string()) && problems[0].contains("set one"));
        assert!(problems[1].contains("set four"));
    }

    #[test]
    fn an_address_that_is_wanted_twice_is_told() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let problems = problems(&[want(free, "one"), want(free, "two")]);
        assert_eq!(problems, [format!("{free} stands in one and in two")]);
    }
}
