//! What a reload may change. A session keeps the settings with which it was greeted.

use std::sync::Arc;

use postrider_smtp::data::ContentLimits;
use postrider_smtp::extension::Extensions;
use postrider_smtp::server::{Limits, SessionConfig, Submission, TlsPolicy};

use crate::config::{EdgeConfig, Role};
use crate::intake::Bounds;
use crate::policy::Chain;

/// Longest line of AUTH (RFC 4954 section 4).
const AUTH_LINE: usize = 12_288;

/// The config with what is made of it once for all sessions.
pub(crate) struct Settings {
    pub(crate) config: EdgeConfig,
    pub(crate) chain: Chain,
    sessions: [Arc<SessionConfig>; 3],
}

impl Settings {
    pub(crate) fn new(config: EdgeConfig, hostname: &str) -> Self {
        Self {
            chain: Chain::new(&config),
            sessions: [Role::Mx, Role::Submission, Role::Submissions]
                .map(|role| Arc::new(session_config(&config, hostname, role))),
            config,
        }
    }

    /// What sessions of this role offer and require.
    pub(crate) fn session(&self, role: Role) -> Arc<SessionConfig> {
        let [mx, submission, submissions] = &self.sessions;
        Arc::clone(match role {
            Role::Mx => mx,
            Role::Submission => submission,
            Role::Submissions => submissions,
        })
    }

    /// What a message may hold in memory while it arrives.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            inline: octets(self.config.inline_body.0),
            headers: octets(self.config.limits.header_size.0),
        }
    }
}

fn session_config(config: &EdgeConfig, hostname: &str, role: Role) -> SessionConfig {
    let limits = &config.limits;
    SessionConfig {
        hostname: hostname.into(),
        extensions: Extensions::COMMON,
        tls: match role {
            Role::Mx => TlsPolicy::Offered,
            Role::Submission => TlsPolicy::Required,
            Role::Submissions => TlsPolicy::Unavailable,
        },
        // Servers do not authenticate to each other, and where nobody has to, nobody should get
        // to guess passwords.
        auth: role.is_submission(),
        auth_required: role.is_submission(),
        submission: if role.is_submission() {
            Submission {
                hold: config.submission.max_hold_seconds(),
                priority: config.submission.priority,
            }
        } else {
            Submission::default()
        },
        content: ContentLimits {
            size: limits.message_size.0,
            line: u32::try_from(limits.content_line.0).unwrap_or(0),
        },
        limits: Limits {
            recipients: octets(limits.recipients.into()),
            errors: limits.errors,
            commands: limits.commands_without_mail,
            auth_failures: limits.auth_failures,
            command_line: octets(limits.command_line.0),
            auth_line: AUTH_LINE,
        },
    }
}

/// A configured number as a length in memory. Only a machine of less than 64 bits can't hold it.
pub(crate) fn octets(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
