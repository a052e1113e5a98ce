//! TLS towards mail programs and other mail servers: the certificate, loading and reloading it.
