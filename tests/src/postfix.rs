//! Postfix, run by hand from its unpacked Debian package: own config folder, own queue,
//! unprivileged ports, no installation. Needs root, as Postfix does.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::peers::{self, Process};

/// Accounts that every Debian has and nothing runs as; Postfix wants one of its own.
const OWNER: &str = "news";
const GROUP: &str = "uucp";

/// How a Postfix is set up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its own name.
    pub hostname: String,
    /// `relayhost`, e.g. "[127.0.0.1]:2525": where everything goes that is not its own.
    pub relayhost: Option<String>,
    /// Domains that are delivered here, to `<dir>/mail/<domain>/<local part>/` in Maildir form.
    pub domains: Vec<String>,
    /// Addresses that exist here.
    pub mailboxes: Vec<String>,
    /// Certificate chain and key in PEM, for STARTTLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Further lines of main.cf.
    pub extra: String,
}

/// A running Postfix.
#[derive(Debug)]
pub struct Postfix {
    process: Process,
    /// Where its smtpd listens on 127.0.0.1.
    pub port: u16,
    dir: PathBuf,
    config: PathBuf,
}

/// Folders of the queue, and whether they are Postfix' alone.
const QUEUE: [(&str, u32); 14] = [
    ("active", 0o700),
    ("bounce", 0o700),
    ("corrupt", 0o700),
    ("defer", 0o700),
    ("deferred", 0o700),
    ("flush", 0o700),
    ("hold", 0o700),
    ("incoming", 0o700),
    ("private", 0o700),
    ("saved", 0o700),
    ("trace", 0o700),
    ("maildrop", 0o1730),
    ("public", 0o2710),
    ("pid", 0o755),
];

/// What master runs; the first line, the listener, is added in front.
const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - 100 smtp
relay unix - - n - 100 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

impl Postfix {
    /// Writes its configuration below `dir` and starts it.
    ///
    /// # Errors
    /// The package is missing, or it does not come up.
    pub fn start(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let root = peers::root()?;
        let port = peers::free_port();
        let config = dir.join("config");
        let owner = id_of("passwd", OWNER)?;
        let group = id_of("group", GROUP)?;
        for folder in ["config", "data", "queue", "mail"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        chown(dir.join("data"), Some(owner), None)?;
        chown(dir.join("mail"), Some(owner), None)?;
        // Postfix' unprivileged parts must be able to walk down to their files.
        open_path(dir)?;
        for (name, mode) in QUEUE {
            let folder = dir.join("queue").join(name);
            fs::create_dir_all(&folder)?;
            if name != "pid" {
                let group = matches!(name, "maildrop" | "public").then_some(group);
                chown(&folder, Some(owner), group)?;
            }
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
        }
        fs::copy(
            root.join("usr/share/postfix/dynamicmaps.cf"),
            config.join("dynamicmaps.cf"),
        )?;
        fs::write(config.join("postfix-files"), "")?;
        fs::write(
            config.join("master.cf"),
            format!("127.0.0.1:{port} inet n - n - 100 smtpd\n{SERVICES}"),
        )?;
        fs::write(
            config.join("main.cf"),
            main_cf(&root, dir, settings, owner)?,
        )?;
        let mut command = Command::new(root.join("usr/lib/postfix/sbin/master"));
        command
            .arg("-c")
            .arg(&config)
            .arg("-d")
            .env("LD_LIBRARY_PATH", root.join("usr/lib/postfix"))
            .env("MAIL_CONFIG", &config)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::start("postfix", &mut command)?;
        let postfix = Self {
            process,
            port,
            dir: dir.to_owned(),
            config,
        };
        peers::wait_for_port(port, Duration::from_secs(15))
            .with_context(|| format!("postfix did not start; its log: {}", postfix.log()))?;
        Ok(postfix)
    }

    /// The id of its master process; all others descend from it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("maillog")).unwrap_or_default()
    }

    /// Submits a message as a local program would, with Postfix' own `sendmail`.
    ///
    /// # Errors
    /// It was not taken.
    pub fn sendmail(&self, from: &str, to: &[&str], message: &[u8]) -> anyhow::Result<()> {
        use std::io::Write as _;
        let root = peers::root()?;
        let mut child = Command::new(root.join("usr/sbin/sendmail"))
            .arg("-C")
            .arg(&self.config)
            .args(["-i", "-f", from])
            .args(to)
            .env("LD_LIBRARY_PATH", root.join("usr/lib/postfix"))
            .env("MAIL_CONFIG", &self.config)
            .stdin(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("sendmail's input")?
            .write_all(message)?;
        let status = child.wait()?;
        if !status.success() {
            bail!("sendmail: {status}");
        }
        Ok(())
    }

    /// The messages in a mailbox, as stored, in the order of their file names.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn mailbox(&self, address: &str) -> anyhow::Result<Vec<Vec<u8>>> {
        let (local, domain) = address.split_once('@').context("an address")?;
        let folder = self.dir.join("mail").join(domain).join(local).join("new");
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut files: Vec<PathBuf> = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        files.sort();
        files.into_iter().map(|file| Ok(fs::read(file)?)).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Master ends its children on SIGTERM; kill -9 would leave them behind.
        self.process.stop(Duration::from_secs(10)).ok();
    }
}

fn main_cf(root: &Path, dir: &Path, settings: &Settings, owner: u32) -> anyhow::Result<String> {
    let (root, dir_text) = (root.display(), dir.display());
    let mut text = format!(
        "compatibility_level = 3.6
queue_directory = {dir_text}/queue
data_directory = {dir_text}/data
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {dir_text}/config
mail_owner = {OWNER}
setgid_group = {GROUP}
default_privs = nobody
import_environment = MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH
export_environment = TZ LANG MAIL_CONFIG LD_LIBRARY_PATH
maillog_file = {dir_text}/maillog
maillog_file_prefixes = {dir_text}
myhostname = {hostname}
mydestination =
local_transport = error:no local mail
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
biff = no
smtpd_recipient_restrictions = permit_mynetworks, reject
smtputf8_enable = yes
",
        hostname = settings.hostname,
    );
    if let Some(relayhost) = &settings.relayhost {
        writeln!(text, "relayhost = {relayhost}")?;
    }
    if !settings.domains.is_empty() {
        let map: String = settings
            .mailboxes
            .iter()
            .filter_map(|address| {
                let (local, domain) = address.split_once('@')?;
                Some(format!("{address} {domain}/{local}/\n"))
            })
            .collect();
        fs::write(dir.join("config/mailboxes"), map)?;
        writeln!(
            text,
            "virtual_mailbox_domains = {}",
            settings.domains.join(", ")
        )?;
        writeln!(text, "virtual_mailbox_base = {dir_text}/mail")?;
        writeln!(
            text,
            "virtual_mailbox_maps = texthash:{dir_text}/config/mailboxes"
        )?;
        writeln!(
            text,
            "virtual_uid_maps = static:{owner}\nvirtual_gid_maps = static:{owner}"
        )?;
        writeln!(text, "virtual_minimum_uid = {owner}")?;
    }
    if let Some((certificate, key)) = &settings.tls {
        writeln!(text, "smtpd_tls_cert_file = {}", certificate.display())?;
        writeln!(text, "smtpd_tls_key_file = {}", key.display())?;
        writeln!(
            text,
            "smtpd_tls_security_level = may\nsmtpd_tls_received_header = yes"
        )?;
        writeln!(
            text,
            "smtp_tls_security_level = may\nsmtp_tls_loglevel = 1\nsmtpd_tls_loglevel = 1"
        )?;
    }
    text.push_str(&settings.extra);
    Ok(text)
}

/// Makes every folder above `dir` passable, as far as they are in the temporary folder.
fn open_path(dir: &Path) -> anyhow::Result<()> {
    let temporary = std::env::temp_dir();
    for folder in dir
        .ancestors()
        .take_while(|folder| folder.starts_with(&temporary) && *folder != temporary)
    {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn id_of(database: &str, name: &str) -> anyhow::Result<u32> {
    let text = fs::read_to_string(Path::new("/etc").join(database))?;
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| fields.nth(1))?
        })
        .find_map(|id| id.parse().ok())
        .with_context(|| format!("/etc/{database} has no {name}"))
}
