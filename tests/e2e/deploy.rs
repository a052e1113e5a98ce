//! `docker-compose.yml`, `Dockerfile` and `deploy/` against the binaries and the configuration.
//!
//! No container engine is needed. So every command, flag, variable, port, path and metric name in
//! these files is held against what it must agree with: the binaries are run with the very
//! arguments, the config file is loaded with the very environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use postrider_tests::peers::{self, Process};
use postrider_tests::server::binary;
use serde_yaml_ng::Value;

use crate::world::{run, text};

const OURS: [&str; 4] = ["edge", "queue", "delivery", "mailbox"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    let mut value: Value =
        serde_yaml_ng::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    value.apply_merge().unwrap();
    value
}

fn config() -> toml::Table {
    read("deploy/postrider.toml").parse().unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_sequence()
        .map(|items| {
            items
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default()
}

fn service(name: &str) -> Value {
    let compose = yaml("docker-compose.yml");
    let service = compose["services"][name].clone();
    assert!(
        service.is_mapping(),
        "docker-compose.yml has no service {name}"
    );
    service
}

fn environment(service: &Value) -> BTreeMap<String, String> {
    let Some(map) = service["environment"].as_mapping() else {
        return BTreeMap::new();
    };
    map.iter()
        .map(|(key, value)| {
            (
                key.as_str().unwrap().to_owned(),
                value.as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

/// Ports that the config file makes a service listen on, by service.
fn listening(section: &str) -> BTreeSet<u16> {
    let config = config();
    let table = match section {
        "edge" => config["edge"].clone(),
        "mailbox" => config["mailbox"]["pop3"].clone(),
        _ => return BTreeSet::new(),
    };
    table["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| port(one["address"].as_str().unwrap()))
        .collect()
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn every_service_runs_a_binary_with_flags_that_it_knows() {
    let dockerfile = read("Dockerfile");
    for name in OURS {
        let command = strings(&service(name)["command"]);
        assert_eq!(command[0], format!("postrider-{name}"));
        let help = run(Command::new(binary(&command[0]).unwrap()).arg("--help"))
            .unwrap()
            .stdout;
        let help = String::from_utf8(help).unwrap();
        for flag in command.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag.as_str()), "{name} knows no {flag}");
        }
        assert!(
            dockerfile.contains(&format!("target/release/{} ", command[0])),
            "{} is not in the image",
            command[0]
        );
        let file = command
            .iter()
            .skip_while(|word| *word != "--config")
            .nth(1)
            .unwrap();
        let volumes = strings(&service(name)["volumes"]);
        let mount = volumes
            .iter()
            .find(|mount| mount.contains(&format!(":{file}:")))
            .unwrap();
        assert!(
            root().join(mount.split(':').next().unwrap()).is_file(),
            "{mount}"
        );
        assert!(
            volumes
                .iter()
                .any(|mount| mount.starts_with("certificates:/run/postrider")),
            "{name} does not see the certificates"
        );
        let health = strings(&service(name)["healthcheck"]["test"]);
        assert_eq!(health[1..3], ["postrider", "health"]);
        let help = run(Command::new(binary("postrider").unwrap()).args(["health", "--help"]))
            .unwrap()
            .stdout;
        assert!(
            String::from_utf8(help)
                .unwrap()
                .contains("Usage: postrider health")
        );
    }
    for line in dockerfile
        .lines()
        .filter(|line| line.contains("/src/target/release/"))
    {
        let name = line
            .trim()
            .trim_end_matches(" \\")
            .rsplit('/')
            .next()
            .unwrap();
        binary(name).unwrap();
    }
}

#[test]
fn the_configuration_loads_with_each_environment() {
    let file = root().join("deploy/postrider.toml");
    for name in OURS {
        let environment = environment(&service(name));
        assert!(!environment.is_empty());
        run(Command::new(binary("postrider").unwrap())
            .args(["config", "check", "--config", &text(&file)])
            .envs(&environment))
        .unwrap();
        // The check is one that can fail.
        let refused = Command::new(binary("postrider").unwrap())
            .args(["config", "check", "--config", &text(&file)])
            .envs(
                environment
                    .iter()
                    .map(|(key, value)| (format!("{key}X"), value)),
            )
            .output()
            .unwrap();
        assert!(!refused.status.success());
    }
}

#[test]
fn published_ports_are_listened_on() {
    for name in OURS {
        let expected = listening(name);
        let published: BTreeSet<u16> = strings(&service(name)["ports"])
            .iter()
            .map(|mapping| port(mapping))
            .collect();
        assert_eq!(published, expected, "{name}");
    }
    let exposed: BTreeSet<u16> = read("Dockerfile")
        .lines()
        .filter_map(|line| line.strip_prefix("EXPOSE "))
        .flat_map(|line| {
            line.split(' ')
                .map(|port| port.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    let metrics = port(config()["telemetry"]["listen"][0].as_str().unwrap());
    let all = listening("edge")
        .into_iter()
        .chain(listening("mailbox"))
        .chain([metrics])
        .collect();
    assert_eq!(exposed, all);
    let health = strings(&service("edge")["healthcheck"]["test"]);
    assert!(
        health.last().unwrap().ends_with(&format!(":{metrics}")),
        "{health:?}"
    );
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let discovery = &prometheus["scrape_configs"][0]["dns_sd_configs"][0];
    assert_eq!(discovery["port"].as_u64(), Some(u64::from(metrics)));
    assert_eq!(strings(&discovery["names"]), OURS);
}

#[test]
fn services_find_each_other() {
    let compose = yaml("docker-compose.yml");
    let names: BTreeSet<&str> = compose["services"]
        .as_mapping()
        .unwrap()
        .keys()
        .map(|key| key.as_str().unwrap())
        .collect();
    let config = config();
    let host_and_port = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, port) = rest.split('/').next().unwrap().split_once(':').unwrap();
        (host.to_owned(), port.parse::<u16>().unwrap())
    };
    for (key, listen) in [("queue", "queue_listen"), ("mailbox", "mailbox_listen")] {
        let (host, at) = host_and_port(config["services"][key].as_str().unwrap());
        assert_eq!(
            (host.as_str(), at),
            (key, port(config["services"][listen].as_str().unwrap()))
        );
    }
    let (host, at) = host_and_port(config["queue"]["redis"]["url"].as_str().unwrap());
    assert!(names.contains(host.as_str()) && at == 6379);
    let (host, at) =
        host_and_port(&environment(&service("edge"))["POSTRIDER__TELEMETRY__OTLP_ENDPOINT"]);
    let collector = yaml("deploy/collector/config.yaml");
    assert!(names.contains(host.as_str()));
    assert_eq!(
        port(
            collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
                .as_str()
                .unwrap()
        ),
        at
    );
    let (host, _) = host_and_port(collector["exporters"]["otlp"]["endpoint"].as_str().unwrap());
    assert!(names.contains(host.as_str()));
    for source in yaml("deploy/grafana/provisioning/datasources/datasources.yaml")["datasources"]
        .as_sequence()
        .unwrap()
    {
        let (host, _) = host_and_port(source["url"].as_str().unwrap());
        assert!(names.contains(host.as_str()), "{host}");
    }
    // What is mounted from the repository is there.
    for service in compose["services"].as_mapping().unwrap().values() {
        for mount in strings(&service["volumes"])
            .iter()
            .filter(|mount| mount.starts_with("./"))
        {
            let path = root().join(mount.split(':').next().unwrap());
            assert!(path.exists(), "{}", path.display());
        }
    }
}

#[test]
fn the_certificates_are_what_the_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    let service = service("certificates");
    let mut command = strings(&service["command"]);
    assert_eq!(command[0], "postrider");
    let folder = command
        .iter_mut()
        .find(|word| word.as_str() == "/run/postrider")
        .unwrap();
    *folder = text(dir.path());
    for _ in 0..2 {
        // The second time it finds them and changes nothing.
        run(Command::new(binary("postrider").unwrap()).args(&command[1..])).unwrap();
    }
    let config = config();
    for key in ["ca", "certificate", "key"] {
        let path = config["services"][key].as_str().unwrap();
        let file = dir
            .path()
            .join(path.strip_prefix("/run/postrider/").unwrap());
        assert!(file.is_file(), "{key}: {path}");
    }
}

#[test]
fn redis_runs_with_the_flags_and_the_queue_trusts_it() {
    let command = strings(&service("redis")["command"]);
    assert_eq!(command[0], "redis-server");
    let dir = tempfile::tempdir().unwrap();
    let port = peers::free_port();
    let _redis = Process::start(
        "redis-server",
        Command::new(peers::program("usr/bin/redis-server").unwrap())
            .args(&command[1..])
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--dir",
                &text(dir.path()),
            ])
            .stdout(std::process::Stdio::null()),
    )
    .unwrap();
    peers::wait_for_port(port, Duration::from_secs(10)).unwrap();
    let server = postrider_tests::server::Server::start(
        &dir.path().join("server"),
        &postrider_tests::server::Settings {
            store: postrider_tests::server::Store::Redis(format!("redis://127.0.0.1:{port}/0")),
            ..crate::world::settings()
        },
    )
    .unwrap();
    assert!(server.cli(&["queue", "stats"]).is_ok());
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let known: BTreeSet<String> = read("docs/metrics.md")
        .split('`')
        .filter(|word| word.starts_with("postrider_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect();
    assert!(
        known.len() > 20,
        "docs/metrics.md names {} metrics",
        known.len()
    );
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/dashboards/postrider.json")).unwrap();
    let mut asked = BTreeSet::new();
    let mut panels = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            panels += 1;
            let expression = target["expr"].as_str().unwrap();
            asked.extend(
                expression
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .filter(|word| word.starts_with("postrider_") || word.starts_with("process_"))
                    .map(str::to_owned),
            );
        }
    }
    assert!(panels >= 8, "{panels} queries");
    for name in asked {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(&name);
        assert!(
            known.contains(base) || known.contains(&name),
            "the dashboard asks for {name}"
        );
    }
}
