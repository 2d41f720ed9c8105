//! Where each command works: with any server, without one, or only on the server's host.

use super::{Command, audit, config_command, db, hosts, providers};

/// Where a command works. The text completes "it ".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the chosen server, on whatever host.
    AnyServer,
    /// On every host; no server is used.
    NoServer(&'static str),
    /// On the server's host, as the server's user.
    ServersHost(&'static str),
}

impl Command {
    /// Where it works.
    pub(crate) fn place(&self) -> Place {
        use Place::{AnyServer, NoServer, ServersHost};
        use audit::AuditCommand::Verify;
        use config_command::ConfigCommand::{Check as CheckConfig, Example};
        use providers::ProvidersCommand::{Check, Outdated, Test};
        let uses_no_server = [
            (matches!(self, Self::Config(Example | CheckConfig { file: Some(_), .. })), "only reads a file"),
            (matches!(self, Self::Restore(_)), "makes a state directory on the host on which it runs"),
            (matches!(self, Self::Host(hosts::HostCommand::Join)), "makes the key of the host on which it runs"),
            (matches!(self, Self::Bench(_)), "measures the host on which it runs"),
            (
                matches!(self, Self::Providers(Check { .. } | Test(_) | Outdated { .. })),
                "reads descriptors and the image on this host",
            ),
            (matches!(self, Self::Audit(Verify { dir: Some(_), .. })), "reads files of this host"),
        ];
        let reads_key = matches!(self, Self::Backup(arguments) if arguments.with_key);
        let keys_need = if let Self::Keys(command) = self { command.host_need() } else { None };
        let needs_host = [
            (matches!(self, Self::Serve { .. }), "is the server"),
            (matches!(self, Self::Doctor { leaks: false, .. }), "checks the host on which it runs"),
            (matches!(self, Self::Image(_)), "works on the images in this host's cache directory"),
            (
                matches!(self, Self::Db(db::DbCommand::Export { .. } | db::DbCommand::Import { .. })),
                "moves the database of the host on which it runs",
            ),
            (reads_key, "reads the key file, which does not leave the server's host"),
            (keys_need.is_some(), keys_need.unwrap_or_default()),
        ];
        let reason = |rows: &[(bool, &'static str)]| rows.iter().find_map(|(applies, why)| applies.then_some(*why));
        match (reason(&needs_host), reason(&uses_no_server)) {
            (Some(why), _) => ServersHost(why),
            (None, Some(why)) => NoServer(why),
            (None, None) => AnyServer,
        }
    }
}
