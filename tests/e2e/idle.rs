//! What a connection costs that does nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use postrider_tests::cpu;

use crate::world::{World, settings};

const CONNECTIONS: usize = 1_000;
/// Bytes of resident memory each, at most.
const LIMIT: u64 = 16 << 10;

#[test]
fn a_thousand_idle_connections_cost_little() {
    let mut settings = settings();
    settings.environment = vec![
        ("POSTRIDER__EDGE__LIMITS__CONNECTIONS", "5000".to_owned()),
        (
            "POSTRIDER__EDGE__LIMITS__CONNECTIONS_PER_CLIENT",
            "5000".to_owned(),
        ),
    ];
    let world = World::start_with(&settings).unwrap();
    let process = world.server.processes()[0];
    let open = |count: usize| -> Vec<BufReader<TcpStream>> {
        (0..count)
            .map(|_| {
                let stream = TcpStream::connect(("127.0.0.1", world.server.ports.mx)).unwrap();
                let mut reader = BufReader::with_capacity(512, stream);
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                assert!(line.starts_with("220 "), "{line}");
                reader.get_ref().write_all(b"EHLO idle.test\r\n").unwrap();
                while !line.starts_with("250 ") {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                }
                reader
            })
            .collect()
    };
    // The first hundred also pay for what is there once.
    let warm = open(100);
    let before = cpu::resident(process);
    let idle = open(CONNECTIONS);
    let after = cpu::resident(process);
    let each = after.saturating_sub(before) / CONNECTIONS as u64;
    println!("{each} bytes of resident memory for each of {CONNECTIONS} idle connections");
    assert!(each <= LIMIT, "{each} bytes each");
    drop((warm, idle));
}
