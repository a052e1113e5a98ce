//! Every Debian package that the tests need, in one place.

/// Programs that people send and fetch mail with, and what they need for TLS and AUTH. They are
/// installed; none of them runs by itself.
pub(crate) const CLIENTS: &[&str] = &[
    "curl",
    "swaks",
    "libnet-ssleay-perl",
    "msmtp",
    "git",
    "git-email",
    "libio-socket-ssl-perl",
    "libauthen-sasl-perl",
    "libmailtools-perl",
    "fetchmail",
    "mpop",
    "python3",
    // `kill`
    "procps",
];

/// Messages that nobody here wrote: the test data of Python's own library. The package's name has
/// the version in it, which takes the place of the star.
pub(crate) const MESSAGES: &str = "libpython3.*-testsuite";

/// Servers. They are unpacked into a folder and never installed, so that nothing starts by itself;
/// the libraries that they need are installed.
pub(crate) const SERVERS: &[&str] = &["postfix", "redis-server", "redis-tools"];

/// A program of each server, to see whether it is unpacked.
pub(crate) const SERVER_PROGRAMS: &[&str] =
    &["usr/lib/postfix/sbin/master", "usr/bin/redis-server"];
