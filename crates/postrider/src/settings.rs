//! One configuration for all services: every section of the file, read and checked together.

use postrider_config::reference::{self, Section};
use postrider_config::{ConfigError, Document, ServerConfig};
use postrider_delivery::DeliveryConfig;
use postrider_edge::EdgeConfig;
use postrider_mailbox::MailboxConfig;
use postrider_protocol::grpc::ServicesConfig;
use postrider_queue::QueueConfig;
use postrider_telemetry::TelemetryConfig;
use postrider_tls::TlsConfig;

/// Every section.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `[server]`
    pub server: ServerConfig,
    /// `[tls]`
    pub tls: TlsConfig,
    /// `[services]`
    pub services: ServicesConfig,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
    /// `[edge]`
    pub edge: EdgeConfig,
    /// `[queue]`
    pub queue: QueueConfig,
    /// `[delivery]`
    pub delivery: DeliveryConfig,
    /// `[mailbox]`
    pub mailbox: MailboxConfig,
}

impl Settings {
    /// Reads every section, as `serve` and `config check` alike do.
    ///
    /// # Errors
    /// Every problem of every section at once.
    pub fn read(document: &Document) -> Result<Self, ConfigError> {
        let mut reader = document.reader();
        let settings = Self {
            server: reader.section("server", ServerConfig::validate),
            tls: reader.section("tls", TlsConfig::validate),
            services: reader.section("services", ServicesConfig::validate),
            telemetry: reader.section("telemetry", TelemetryConfig::validate),
            edge: reader.section("edge", EdgeConfig::validate),
            queue: reader.section("queue", QueueConfig::validate),
            delivery: reader.section("delivery", DeliveryConfig::validate),
            mailbox: reader.section("mailbox", MailboxConfig::validate),
        };
        reader.finish()?;
        Ok(settings)
    }

    /// What the structs say about themselves, section by section.
    #[must_use]
    pub fn reference() -> Vec<Section> {
        vec![
            Section::of::<ServerConfig>("server"),
            Section::of::<TlsConfig>("tls"),
            Section::of::<ServicesConfig>("services"),
            Section::of::<TelemetryConfig>("telemetry"),
            Section::of::<EdgeConfig>("edge"),
            Section::of::<QueueConfig>("queue"),
            Section::of::<DeliveryConfig>("delivery"),
            Section::of::<MailboxConfig>("mailbox"),
        ]
    }

    /// What is in force, as a config file. Secrets are masked.
    ///
    /// # Errors
    /// A section cannot be written as TOML.
    pub fn dump(&self) -> anyhow::Result<String> {
        let sections = [
            reference::dump("server", &self.server)?,
            reference::dump("tls", &self.tls)?,
            reference::dump("services", &self.services)?,
            reference::dump("telemetry", &self.telemetry)?,
            reference::dump("edge", &self.edge)?,
            reference::dump("queue", &self.queue)?,
            reference::dump("delivery", &self.delivery)?,
            reference::dump("mailbox", &self.mailbox)?,
        ];
        Ok(sections.join("\n"))
    }
}
