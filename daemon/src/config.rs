//! The configuration file of `tobarid run`, in TOML: [`RawConfig`] as it is written, [`Config`] as it is used. An
//! unknown key, a value of the wrong kind and a value out of range are errors that name the key; nothing is
//! silently replaced by a default. `deploy/examples/tobarid.toml` shows every key.

use crate::gateway::{GatewaySettings, RawGateway};
use crate::seal::Wipe;
use crate::session::{FIRST_UID, Home, SessionSettings, UIDS};
use crate::watch::{EngineSettings, Events};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tobari_core::proto::control::DEFAULT_SOCKET;

/// Where the configuration is unless `--config` says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/tobari/tobarid.toml";
/// Where the terminal's keys and certificate are unless configured.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/tobari";

const ROLES: &str = "seal, view, gateway";

/// What the daemon does on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Seals what lands in designated folders.
    Seal,
    /// Opens sealed files for people who log in here.
    View,
    /// Shows sealed files to a share, for the people whom it authenticated.
    Gateway,
}

impl std::str::FromStr for Role {
    type Err = ConfigError;
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "seal" => Ok(Self::Seal),
            "view" => Ok(Self::View),
            "gateway" => Ok(Self::Gateway),
            _ => Err(invalid("roles", format!("'{text}' is not a role (known: {ROLES})"))),
        }
    }
}

/// The configuration as written. Every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Folder of the terminal's keys, certificate and cached bulletin.
    pub state_dir: Option<PathBuf>,
    /// Path of the control socket.
    pub socket: Option<PathBuf>,
    /// What the daemon does: any of `"seal"`, `"view"` and `"gateway"`.
    pub roles: Option<Vec<Role>>,
    /// Log filter, such as `"info"` or `"tobari_daemon=debug"`.
    pub log: Option<String>,
    /// How often the key server is asked for a new bulletin, in seconds.
    pub bulletin_poll_seconds: Option<u64>,
    /// Where metrics are written for node-exporter; nowhere when left out.
    pub metrics_file: Option<PathBuf>,
    /// Limits of the control socket.
    #[serde(default)]
    pub control: RawControl,
    /// How the folder side behaves.
    #[serde(default)]
    pub seal: RawSeal,
    /// How confined sessions are set up.
    #[serde(default)]
    pub session: RawSession,
    /// What a gateway shows where.
    #[serde(default)]
    pub gateway: RawGateway,
}

/// Table `[control]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawControl {
    /// Most connections at a time.
    pub connections: Option<usize>,
    /// Most connections of one user at a time.
    pub connections_per_user: Option<usize>,
    /// A connection that asks nothing for this long is closed, in seconds.
    pub idle_seconds: Option<u64>,
}

/// Table `[session]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSession {
    /// The first of the uids that only sessions have on this host.
    pub first_uid: Option<u32>,
    /// How many there are.
    pub uids: Option<u32>,
    /// What a session shows of the user's home: `"overlay"` or `"empty"`.
    pub home: Option<Home>,
    /// Folders that can be read in a session besides the system's and the home.
    pub visible: Option<Vec<PathBuf>>,
    /// Whether sessions get the user's Wayland and X11 sockets.
    pub display: Option<bool>,
    /// The print server's socket, for `tobari run --print`.
    pub print_socket: Option<PathBuf>,
    /// The program `bwrap`.
    pub bubblewrap: Option<PathBuf>,
}

/// Table `[seal]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSeal {
    /// Time between two sweeps of a folder, in seconds.
    pub sweep_seconds: Option<u64>,
    /// A file that no event announced is left alone until it was last written this long ago, in milliseconds.
    pub settle_milliseconds: Option<u64>,
    /// Threads that seal new files, and as many that seal what sweeps find.
    pub workers: Option<usize>,
    /// Threads for one large file.
    pub threads: Option<usize>,
    /// Patterns of editors' lock and temporary files, left alone while they are young...
    pub transient: Option<Vec<String>>,
    /// ...and sealed once they were last written this long ago, in seconds.
    pub transient_seconds: Option<u64>,
    /// Longest pause before another try of a file that could not be sealed, in seconds.
    pub retry_seconds: Option<u64>,
    /// Where events come from: `"auto"`, `"fanotify"` or `"inotify"`.
    pub events: Option<Events>,
    /// Chunk size of new envelopes in KiB: a power of two from 4 to 1024.
    pub chunk_kib: Option<u32>,
    /// What happens to the blocks of the plaintext: `"none"` or `"overwrite"`.
    pub wipe: Option<Wipe>,
    /// Plaintext that sweeps seal in each second at most, in MiB; no limit unless set. New files are not held up.
    pub bandwidth_mib_per_second: Option<u64>,
}

/// The configuration as used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of the terminal's keys, certificate and cached bulletin.
    pub state_dir: PathBuf,
    /// Path of the control socket.
    pub socket: PathBuf,
    /// What the daemon does; never empty.
    pub roles: BTreeSet<Role>,
    /// Log filter.
    pub log: String,
    /// How often the key server is asked for a new bulletin.
    pub bulletin_poll: Duration,
    /// Where metrics are written.
    pub metrics_file: Option<PathBuf>,
    /// Limits of the control socket.
    pub control: ControlLimits,
    /// How the folder side behaves.
    pub seal: EngineSettings,
    /// How confined sessions are set up.
    pub session: SessionSettings,
    /// What a gateway shows where.
    pub gateway: GatewaySettings,
}

/// Limits of the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlLimits {
    /// Most connections at a time.
    pub connections: usize,
    /// Most connections of one user at a time.
    pub connections_per_user: usize,
    /// A connection that asks nothing for this long is closed.
    pub idle: Duration,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML of the expected shape; the parser names line and key.
    #[error("failed to understand the configuration {path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value is out of range.
    #[error("failed to use the configuration: {field}: {why}")]
    Invalid {
        /// The key.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

fn invalid(field: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field, why: why.into() }
}

impl RawConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read or has unknown or malformed keys.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let roles: BTreeSet<Role> =
            raw.roles.unwrap_or_else(|| vec![Role::Seal, Role::View]).into_iter().collect();
        if roles.is_empty() {
            return Err(invalid("roles", format!("at least one role is needed (known: {ROLES})")));
        }
        let log = raw.log.unwrap_or_else(|| String::from("info"));
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&log) {
            return Err(invalid("log", error.to_string()));
        }
        let socket = absolute("socket", raw.socket, DEFAULT_SOCKET)?;
        let gateway =
            raw.gateway.resolve(&socket).map_err(|(field, why)| ConfigError::Invalid { field, why })?;
        if gateway.mounts.is_empty() == roles.contains(&Role::Gateway) {
            return Err(invalid(
                "gateway.mount",
                "the role 'gateway' and a [[gateway.mount]] need each other",
            ));
        }
        let connections = within("control.connections", raw.control.connections, 256, 1..=65_536)?;
        Ok(Self {
            state_dir: absolute("state_dir", raw.state_dir, DEFAULT_STATE_DIR)?,
            session: raw.session.resolve(&socket)?,
            socket,
            roles,
            log,
            bulletin_poll: seconds("bulletin_poll_seconds", raw.bulletin_poll_seconds, 15, 1..=86_400)?,
            metrics_file: raw
                .metrics_file
                .map(|path| absolute("metrics_file", Some(path), ""))
                .transpose()?,
            control: ControlLimits {
                connections,
                connections_per_user: within(
                    "control.connections_per_user",
                    raw.control.connections_per_user,
                    connections.min(32),
                    1..=connections,
                )?,
                idle: seconds("control.idle_seconds", raw.control.idle_seconds, 300, 1..=86_400)?,
            },
            seal: raw.seal.resolve()?,
            gateway,
        })
    }
}

impl RawSession {
    fn resolve(self, socket: &Path) -> Result<SessionSettings, ConfigError> {
        let first_uid = within("session.first_uid", self.first_uid, FIRST_UID, 65_536..=u32::MAX - 65_537)?;
        let visible = self.visible.unwrap_or_default();
        let visible: Result<_, _> =
            visible.into_iter().map(|path| absolute("session.visible", Some(path), "")).collect();
        Ok(SessionSettings {
            // Beside the socket, where everything goes with the host's restart.
            folder: socket.parent().unwrap_or(Path::new("/run/tobari")).join("sessions"),
            bubblewrap: absolute("session.bubblewrap", self.bubblewrap, "/usr/bin/bwrap")?,
            first_uid,
            uids: within("session.uids", self.uids, UIDS, 1..=UIDS)?,
            home: self.home.unwrap_or_default(),
            visible: visible?,
            display: self.display.unwrap_or(true),
            print_socket: absolute("session.print_socket", self.print_socket, "/run/cups/cups.sock")?,
        })
    }
}

impl RawSeal {
    fn resolve(self) -> Result<EngineSettings, ConfigError> {
        let shipped = EngineSettings::default();
        let settle = within(
            "seal.settle_milliseconds",
            self.settle_milliseconds,
            u64::try_from(shipped.settle.as_millis()).unwrap_or(u64::MAX),
            0..=3_600_000,
        )?;
        let retry_max =
            seconds("seal.retry_seconds", self.retry_seconds, shipped.retry_max.as_secs(), 1..=86_400)?;
        let chunk_log2 = match self.chunk_kib {
            None => shipped.chunk_log2,
            Some(kib) if kib.is_power_of_two() && (4..=1024).contains(&kib) => {
                u8::try_from(kib.ilog2() + 10).unwrap_or(shipped.chunk_log2)
            }
            Some(kib) => {
                return Err(invalid("seal.chunk_kib", format!("{kib} is not a power of two from 4 to 1024")));
            }
        };
        Ok(EngineSettings {
            sweep_interval: seconds(
                "seal.sweep_seconds",
                self.sweep_seconds,
                shipped.sweep_interval.as_secs(),
                1..=604_800,
            )?,
            settle: Duration::from_millis(settle),
            workers: within("seal.workers", self.workers, shipped.workers, 1..=256)?,
            threads: within("seal.threads", self.threads, shipped.threads, 1..=256)?,
            transient: self.transient.unwrap_or(shipped.transient),
            transient_age: seconds(
                "seal.transient_seconds",
                self.transient_seconds,
                shipped.transient_age.as_secs(),
                0..=86_400,
            )?,
            retry_min: shipped.retry_min.min(retry_max),
            retry_max,
            events: self.events.unwrap_or(shipped.events),
            chunk_log2,
            wipe: self.wipe.unwrap_or_default(),
            sweep_bytes_per_second: self
                .bandwidth_mib_per_second
                .map(|limit| within("seal.bandwidth_mib_per_second", Some(limit), limit, 1..=1_048_576))
                .transpose()?
                .map(|mib| mib << 20),
        })
    }
}

fn absolute(field: &'static str, path: Option<PathBuf>, default: &str) -> Result<PathBuf, ConfigError> {
    let path = path.unwrap_or_else(|| PathBuf::from(default));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(invalid(field, format!("{path:?} is not an absolute path")))
    }
}

fn within<T: PartialOrd + std::fmt::Display + Copy>(
    field: &'static str,
    value: Option<T>,
    default: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, ConfigError> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(invalid(field, format!("{value} is not from {} to {}", range.start(), range.end())))
    }
}

fn seconds(
    field: &'static str,
    value: Option<u64>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    within(field, value, default, range).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        Config::try_from(raw).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_shipped_configuration() {
        let config = parse("").unwrap();
        assert_eq!(config.state_dir, Path::new(DEFAULT_STATE_DIR));
        assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
        assert_eq!(config.roles, BTreeSet::from([Role::Seal, Role::View]));
        assert_eq!(config.bulletin_poll, Duration::from_secs(15));
        assert_eq!(config.seal, EngineSettings::default());
    }

    #[test]
    fn the_example_shows_the_shipped_configuration() {
        let text = include_str!("../../deploy/examples/tobarid.toml");
        assert_eq!(parse(text), parse(""));
        assert!(parse(&text.replace("\n#workers", "\nworkers").replace("\n#threads", "\nthreads")).is_ok());
    }

    #[test]
    fn every_key_is_used() {
        let config = parse(
            r#"
            state_dir = "/srv/tobari"
            socket = "/srv/tobari.sock"
            roles = ["view", "gateway"]
            log = "debug"
            bulletin_poll_seconds = 5
            metrics_file = "/srv/tobari.prom"
            [control]
            connections = 10
            connections_per_user = 2
            idle_seconds = 9
            [seal]
            sweep_seconds = 30
            settle_milliseconds = 100
            workers = 3
            threads = 4
            transient = ["~*"]
            transient_seconds = 7
            retry_seconds = 8
            events = "inotify"
            chunk_kib = 64
            wipe = "overwrite"
            [gateway]
            user_map = "/srv/users.toml"
            [[gateway.mount]]
            folder = "/srv/a"
            at = "/srv/b"
            "#,
        )
        .unwrap();
        assert_eq!(config.roles, BTreeSet::from([Role::View, Role::Gateway]));
        assert_eq!(config.gateway.mounts[0].at, Path::new("/srv/b"));
        assert_eq!(config.gateway.user_map.as_deref(), Some(Path::new("/srv/users.toml")));
        assert_eq!(config.gateway.views_dir, Path::new("/srv/gateway"));
        assert_eq!(config.metrics_file.as_deref(), Some(Path::new("/srv/tobari.prom")));
        assert_eq!(config.control.connections_per_user, 2);
        assert_eq!(config.control.idle, Duration::from_secs(9));
        assert_eq!(config.seal.sweep_interval, Duration::from_secs(30));
        assert_eq!(config.seal.settle, Duration::from_millis(100));
        assert_eq!((config.seal.workers, config.seal.threads, config.seal.chunk_log2), (3, 4, 16));
        assert_eq!(config.seal.wipe, Wipe::Overwrite);
        assert_eq!(config.seal.transient, ["~*"]);
        assert_eq!(config.seal.transient_age, Duration::from_secs(7));
        assert_eq!(config.seal.retry_max, Duration::from_secs(8));
        assert_eq!(config.seal.events, Events::Inotify);
    }

    #[test]
    fn errors_name_the_key() {
        for (text, named) in [
            ("stat_dir = '/x'", "stat_dir"),
            ("[seal]\nsweep = 3", "sweep"),
            ("roles = []", "roles"),
            ("roles = ['gateways']", "gateways"),
            ("roles = ['gateway']", "gateway.mount"),
            ("gateway.mount = [{ folder = '/a', at = '/b' }]", "gateway.mount"),
            ("roles = ['gateway']\ngateway.mount = [{ folder = 'a', at = '/b' }]", "gateway.mount.folder"),
            ("roles = ['gateway']\ngateway.mount = [{ folder = '/a', at = '/b/../c' }]", "gateway.mount.at"),
            ("roles = ['gateway']\ngateway.mount = [{ folder = '/a', at = '/a/b' }]", "gateway.mount.at"),
            ("roles = ['gateway']\ngateway.mount = [{ folder = '/a', at = '/b', x = 1 }]", "x"),
            (
                "roles = ['gateway']\ngateway.mount = [{ folder = '/a', at = '/b' }, { folder = '/c', at = '/b/d' }]",
                "gateway.mount.at",
            ),
            (
                "roles = ['gateway']\ngateway = { user_map = 'x', mount = [{ folder = '/a', at = '/b' }] }",
                "user_map",
            ),
            ("state_dir = 'x'", "state_dir"),
            ("socket = 'run/x.sock'", "socket"),
            ("metrics_file = 'x'", "metrics_file"),
            ("bulletin_poll_seconds = 0", "bulletin_poll_seconds"),
            ("bulletin_poll_seconds = 'x'", "bulletin_poll_seconds"),
            ("log = 'a=b=c'", "log"),
            ("control.idle_seconds = 0", "control.idle_seconds"),
            ("control.connections = 0", "control.connections"),
            ("control.connections_per_user = 1000", "control.connections_per_user"),
            ("seal.workers = 0", "seal.workers"),
            ("seal.chunk_kib = 3", "seal.chunk_kib"),
            ("[seal]\nwipe = 'shred'", "wipe"),
            ("seal.chunk_kib = 2048", "seal.chunk_kib"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(named), "{text}: {message}");
        }
    }
}
