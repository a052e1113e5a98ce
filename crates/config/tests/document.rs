//! Files as people write them, with their mistakes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use postrider_config::reference::{self, Section};
use postrider_config::values::{Period, Secret, Size};
use postrider_config::{Document, testing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All shapes that a section may have.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Edge {
    /// Text.
    banner: String,
    listen: SocketAddr,
    domains: Vec<String>,
    ports: Vec<u16>,
    limits: Limits,
    listeners: Vec<Listener>,
    routes: BTreeMap<String, Route>,
    store: Store,
    tls: Tls,
    smarthost: Option<Listener>,
    folder: Option<PathBuf>,
    ratio: f64,
    strict: bool,
    password: Secret,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            banner: "ESMTP".to_owned(),
            listen: "127.0.0.1:25".parse().unwrap(),
            domains: vec!["default.test".to_owned()],
            ports: Vec::new(),
            limits: Limits::default(),
            listeners: Vec::new(),
            routes: BTreeMap::new(),
            store: Store::Embedded,
            tls: Tls::Offered,
            smarthost: None,
            folder: Some("/var/lib".into()),
            ratio: 0.5,
            strict: true,
            password: Secret::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    recipients: u32,
    size: Size,
    timeout: Period,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recipients: 100,
            size: Size::mib(25),
            timeout: Period::seconds(300),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Listener {
    address: String,
    role: Option<Tls>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Route {
    Discard,
    Smarthost { host: String, port: u16 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
enum Store {
    Embedded,
    Redis { url: String, timeout: Period },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Tls {
    Off,
    /// Offered.
    Offered,
    Required,
}

const EXAMPLE: &str = r#"
[server]
hostname = "mail.example.org"

[edge]
banner = "hello"
listen = "127.0.0.1:2525"
domains = ["a.test", "b.test"]
tls = "required"
folder = "/srv"
ratio = 1
password = "open sesame"

[edge.limits]
recipients = 500
size = "1MiB"
timeout = "5m"

[[edge.listeners]]
address = "one"
role = "off"

[[edge.listeners]]
address = "two"

[edge.routes.any-name.smarthost]
host = "relay.test"
port = 2525

[edge.store]
kind = "redis"
url = "redis://127.0.0.1"
timeout = "1s"
"#;

fn edge(text: &str) -> Result<Edge, Vec<String>> {
    Document::parse(text)
        .and_then(|document| document.section("edge"))
        .map_err(|error| error.problems().to_vec())
}

fn problems(text: &str) -> Vec<String> {
    edge(text).unwrap_err()
}

fn with(variables: &[(&str, &str)], text: &str) -> Result<Edge, Vec<String>> {
    let mut document = Document::parse(text).unwrap();
    let variables = variables
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    document.lay_over(variables);
    document
        .section("edge")
        .map_err(|error| error.problems().to_vec())
}

#[test]
fn a_file_is_read_and_defaults_fill_it_up() {
    let edge = edge(EXAMPLE).unwrap();
    assert_eq!(edge.banner, "hello");
    assert_eq!(edge.limits.recipients, 500);
    assert_eq!(edge.listeners.len(), 2);
    assert_eq!(edge.listeners[0].role, Some(Tls::Off));
    assert!(edge.strict);
    let route = Route::Smarthost {
        host: "relay.test".to_owned(),
        port: 2525,
    };
    assert_eq!(edge.routes["any-name"], route);
    assert!(matches!(edge.store, Store::Redis { .. }));
    assert_eq!(edge.password.reveal(), "open sesame");
}

#[test]
fn each_key_is_checked() {
    testing::every_key_is_checked::<Edge>("edge", EXAMPLE);
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let text = r#"[edge]
baner = "x"
listen = "nowhere"
ports = [25, 70000, "x"]
ratio = "much"
tls = "offfered"
[edge.limits]
recipients = -1
timeout = "soon"
size = "25MB"
[edge.store]
kind = "redis"
url = 7
[[edge.listeners]]
addres = "x"
[edge.routes.x.smarthst]
host = "x"
[edg]
"#;
    let found = problems(text);
    let expected = [
        "postrider.toml:18: edg: unknown section; did you mean \"edge\"?",
        "postrider.toml:2: edge.baner: unknown key; did you mean \"banner\"?",
        "postrider.toml:15: edge.listeners[0].addres: unknown key; did you mean \"address\"?",
        "postrider.toml:4: edge.ports[1]: 70000 is not between 0 and 65535",
        "postrider.toml:4: edge.ports[2]: expected a whole number, found text",
        "postrider.toml:5: edge.ratio: expected a number, found text",
        "postrider.toml:6: edge.tls: \"offfered\" is none of \"off\", \"required\", \"offered\"; did you mean \"offered\"?",
        "postrider.toml:8: edge.limits.recipients: -1 is not between 0 and 4294967295",
        "postrider.toml:13: edge.store.url: expected text, found a whole number",
        "postrider.toml:16: edge.routes.x: unknown key \"smarthst\" is none of \"smarthost\"; did you mean \"smarthost\"?",
    ];
    for expected in expected {
        assert!(
            found.contains(&expected.to_owned()),
            "{expected}\nin {found:#?}"
        );
    }
    let beginnings = [
        "postrider.toml:3: edge.listen: ",
        "postrider.toml:9: edge.limits.timeout: \"soon\" is not a length of time",
        "postrider.toml:10: edge.limits.size: \"25MB\" is not a size such as",
    ];
    for beginning in beginnings {
        assert!(
            found.iter().any(|problem| problem.starts_with(beginning)),
            "{beginning}\nin {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len() + beginnings.len(), "{found:#?}");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let found = problems("[edge]\nbanner = \nlisten = [1,\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("postrider.toml:2: "), "{found:?}");
    assert!(found[1].starts_with("postrider.toml:3: "), "{found:?}");
    assert!(problems("[edge\n")[0].starts_with("postrider.toml:1: "));
    assert!(problems("edge = 1")[0].contains("edge: expected a table, found a whole number"));
}

#[test]
fn a_tag_must_say_which_form_is_meant() {
    let found = problems("[edge.store]\nurl = \"x\"\n");
    assert_eq!(
        found,
        ["postrider.toml:1: edge.store: kind must say which: \"embedded\", \"redis\""]
    );
    let found = problems("[edge.store]\nkind = \"redi\"\n");
    assert!(found[0].contains("kind: \"redi\" is none of"), "{found:?}");
    let found = problems("[edge.store]\nkind = \"redis\"\nurl = \"x\"\n");
    assert!(found[0].contains("missing field `timeout`"), "{found:?}");
}

#[test]
fn the_environment_lies_over_the_file() {
    let edge = with(
        &[
            ("POSTRIDER__EDGE__BANNER", "from the environment"),
            ("POSTRIDER__EDGE__LIMITS__RECIPIENTS", "7"),
            ("POSTRIDER__EDGE__LIMITS__SIZE", "2MiB"),
            ("POSTRIDER__EDGE__DOMAINS", "x.test, y.test"),
            ("POSTRIDER__EDGE__PORTS", "[25, 587]"),
            ("POSTRIDER__EDGE__LISTENERS__1__ADDRESS", "changed"),
            ("POSTRIDER__EDGE__LISTENERS__2__ADDRESS", "added"),
            ("POSTRIDER__EDGE__STORE", "{ kind = \"embedded\" }"),
            ("POSTRIDER__EDGE__ROUTES__OTHER", "discard"),
            ("POSTRIDER__EDGE__FOLDER", ""),
            ("POSTRIDER__EDGE__STRICT", "false"),
            ("POSTRIDER__EDGE__SMARTHOST__ROLE", "off"),
            ("UNRELATED", "x"),
        ],
        EXAMPLE,
    )
    .unwrap();
    assert_eq!(edge.banner, "from the environment");
    assert_eq!(edge.limits.recipients, 7);
    assert_eq!(edge.limits.size, Size::mib(2));
    assert_eq!(edge.domains, ["x.test", "y.test"]);
    assert_eq!(edge.ports, [25, 587]);
    let addresses: Vec<_> = edge.listeners.iter().map(|l| l.address.as_str()).collect();
    assert_eq!(addresses, ["one", "changed", "added"]);
    assert_eq!(edge.store, Store::Embedded);
    assert_eq!(edge.routes["other"], Route::Discard);
    assert_eq!(edge.folder, Edge::default().folder);
    assert!(!edge.strict);
    assert_eq!(edge.smarthost.unwrap().role, Some(Tls::Off));
}

#[test]
fn the_environment_is_checked_like_the_file() {
    let found = with(
        &[
            ("POSTRIDER__EDGE__LIMITS__RECIPENTS", "7"),
            ("POSTRIDER__EDGE__PORTS", "25, x"),
            ("POSTRIDER__EDGE__RATIO", "much"),
            ("POSTRIDER__EDGE__DOMAINS", "[\"a\""),
            ("POSTRIDER__EDGE__LISTENERS__9__ADDRESS", "x"),
            ("POSTRIDER__EGDE__BANNER", "x"),
        ],
        EXAMPLE,
    )
    .unwrap_err();
    for expected in [
        "POSTRIDER__EGDE__BANNER: there is no section EGDE; did you mean \"EDGE\"?",
        "POSTRIDER__EDGE__LIMITS__RECIPENTS: unknown key RECIPENTS; did you mean \"RECIPIENTS\"?",
        "POSTRIDER__EDGE__PORTS: edge.ports[1]: expected a whole number, found text",
        "POSTRIDER__EDGE__RATIO: edge.ratio: expected a number, found text",
        "POSTRIDER__EDGE__LISTENERS__9__ADDRESS: there is no element 2",
    ] {
        assert!(
            found.contains(&expected.to_owned()),
            "{expected}\nin {found:#?}"
        );
    }
    assert!(
        found
            .iter()
            .any(|p| p.starts_with("POSTRIDER__EDGE__DOMAINS: "))
    );
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn what_a_service_objects_to_gets_its_line_too() {
    let document = Document::parse(EXAMPLE).unwrap();
    let mut reader = document.reader();
    let edge: Edge = reader.section("edge", |edge: &Edge| {
        vec![
            format!("edge.limits.recipients: {} is odd", edge.limits.recipients),
            "edge.strict: stands on no line".to_owned(),
        ]
    });
    assert_eq!(edge.limits.recipients, 500);
    let error = reader.finish().unwrap_err();
    assert_eq!(
        error.to_string(),
        "postrider.toml:15: edge.limits.recipients: 500 is odd\nedge.strict: stands on no line"
    );
}

#[test]
fn the_reference_says_everything_and_the_sample_sets_the_defaults() {
    let sections = [Section::of::<Edge>("edge")];
    let page = reference::markdown(&sections);
    for part in [
        "## `[edge]`\n\nAll shapes that a section may have.",
        "- **`banner`** (text, default `\"ESMTP\"`)\n  Text.",
        "- **`recipients`** (whole number, default `100`)",
        "- **`size`** (size, default `\"25MiB\"`)",
        "- **`timeout`** (length of time, default `\"5m\"`)",
        "  - `offered`: Offered.",
        "### `[[edge.listeners]]`",
        "### `[edge.routes.NAME]`",
        "With `kind = \"embedded\"` (the default):",
        "- **`password`** (secret, default `\"\"`)",
    ] {
        assert!(page.contains(part), "{part}\nin {page}");
    }
    let sample = reference::sample(&sections);
    assert!(
        sample.contains("[edge.limits]\n\n#recipients = 100\n"),
        "{sample}"
    );
    edge(&sample).unwrap();
    // Every key that has a default, set to it.
    let uncommented: String = sample
        .split_inclusive('\n')
        .take_while(|line| !line.starts_with("#["))
        .map(|line| {
            let is_key = line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
            if is_key { &line[1..] } else { line }
        })
        .collect();
    let dumped = |edge: &Edge| reference::dump("edge", edge).unwrap();
    assert_eq!(
        dumped(&edge(&uncommented).unwrap()),
        dumped(&Edge::default())
    );
}

#[test]
fn a_dump_hides_secrets() {
    let mut edge = edge(EXAMPLE).unwrap();
    edge.store = Store::Redis {
        url: "redis://user:sesame@127.0.0.1:6379/0".to_owned(),
        timeout: Period::seconds(1),
    };
    let dump = reference::dump("edge", &edge).unwrap();
    assert!(!dump.contains("sesame"), "{dump}");
    assert!(
        dump.contains("redis://user:[hidden]@127.0.0.1:6379/0"),
        "{dump}"
    );
}
