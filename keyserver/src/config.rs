//! Configuration of `serve`: [`RawConfig`] as written, [`Config`] as resolved.

use crate::args::ServeArgs;
use crate::service::Limits;
use crate::store::postgres::{Location, LocationError};
use crate::witness::{Place, Witnesses};
use jiff::SignedDuration;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Port when none is given.
const DEFAULT_PORT: u16 = 8443;

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// Directory with the database and, unless it is elsewhere, the root key.
    data_dir: Option<PathBuf>,
    /// PostgreSQL database instead of the one in the data directory.
    store: Option<String>,
    /// Address and port; `127.0.0.1:8443` when absent.
    listen: Option<SocketAddr>,
    /// Host names and addresses in the certificate, besides those given to `init`.
    #[serde(default)]
    names: Vec<String>,
    /// Where the root key is.
    root_key_file: Option<PathBuf>,
    /// Minutes until a session ends (60 to 1440; 480).
    session_minutes: Option<i64>,
    /// Minutes until an unused session ends (1 to `session_minutes`; 120).
    session_idle_minutes: Option<i64>,
    /// Minutes until a grant ends (1 to 1440; 15).
    grant_minutes: Option<i64>,
    /// Days until a terminal's certificate ends (1 to 1825; 30). They renew themselves after two thirds of it.
    certificate_days: Option<i64>,
    /// Failed logins in a row until a login name is locked (3 to 20; 5).
    lockout_after: Option<u32>,
    /// Seconds of the first lock (10 to 3600; 60); each further failure doubles it, up to an hour.
    lockout_seconds: Option<i64>,
    /// Requests of one terminal in a second, in the long run (10 to 1000000; 2000); four times as many at once.
    terminal_requests_per_second: Option<u32>,
    /// The same for one person.
    person_requests_per_second: Option<u32>,
    /// Who sees the audit log's checkpoints.
    #[serde(default)]
    witness: Vec<RawWitness>,
    /// Seconds between the checkpoints that a witness gets (1 to 3600; 10).
    witness_interval_seconds: Option<i64>,
    /// Seconds without a witness after which grants stop (at least twice the interval, to 86400); absent: never.
    witness_wait_seconds: Option<i64>,
}

/// A witness: one of the three.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWitness {
    /// A file that grows.
    file: Option<PathBuf>,
    /// The socket of the system's log, such as `/dev/log`.
    syslog: Option<PathBuf>,
    /// A witness server.
    url: Option<String>,
    /// Its key, with `url`.
    key: Option<String>,
}

/// The configuration as resolved.
#[derive(Debug)]
pub struct Config {
    /// Directory with the database, or at least the root key.
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL database instead of the one in the data directory.
    pub store: Option<Location>,
    /// Address and port.
    pub listen: SocketAddr,
    /// More names for the certificate.
    pub names: Vec<String>,
    /// Where the operator says the root key is.
    pub root_key_file: Option<PathBuf>,
    /// Limits of the service.
    pub limits: Limits,
    /// Who sees the audit log's checkpoints.
    pub witnesses: Witnesses,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration {path:?}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is not TOML, or has a field that is not known.
    #[error("failed to understand the configuration {path:?}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Names line and field.
        source: Box<toml::de::Error>,
    },
    /// A number is out of range.
    #[error("{field}: {value} is out of range ({least} to {most})")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// As written.
        value: i64,
        /// Least that is allowed.
        least: i64,
        /// Most that is allowed.
        most: i64,
    },
    /// Not a name that a certificate can have.
    #[error("names[{index}]: '{name}' is neither a host name nor an IP address")]
    Name {
        /// Which of `names`.
        index: usize,
        /// As written.
        name: String,
    },
    /// Not a witness.
    #[error("witness[{0}]: needs one of file, syslog, or url (http://…) with key")]
    Witness(usize),
    /// Not the address of a database.
    #[error("store: {0}")]
    Store(#[from] LocationError),
    /// Neither a data directory nor a database is named.
    #[error("data_dir: missing in the configuration file and on the command line")]
    NoDataDir,
}

fn within(
    field: &'static str,
    value: Option<i64>,
    least: i64,
    most: i64,
) -> Result<Option<i64>, ConfigError> {
    if let Some(value) = value
        && !(least..=most).contains(&value)
    {
        return Err(ConfigError::OutOfRange { field, value, least, most });
    }
    Ok(value)
}

impl RawConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has a field that is not known; names it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Malformed { path: path.to_owned(), source: Box::new(error) })
    }

    fn limits(&self) -> Result<Limits, ConfigError> {
        let mut limits = Limits::default();
        let set = |limit: &mut SignedDuration, minutes: Option<i64>| {
            if let Some(minutes) = minutes {
                *limit = SignedDuration::from_mins(minutes);
            }
        };
        set(&mut limits.session_life, within("session_minutes", self.session_minutes, 60, 1440)?);
        let life = limits.session_life.as_mins();
        set(&mut limits.session_idle, within("session_idle_minutes", self.session_idle_minutes, 1, life)?);
        set(&mut limits.grant_life, within("grant_minutes", self.grant_minutes, 1, 1440)?);
        if let Some(days) = within("certificate_days", self.certificate_days, 1, 1825)? {
            limits.certificate_life = SignedDuration::from_hours(24 * days);
        }
        if let Some(after) = self.lockout_after {
            within("lockout_after", Some(i64::from(after)), 3, 20)?;
            limits.lockout_after = after;
        }
        if let Some(seconds) = within("lockout_seconds", self.lockout_seconds, 10, 3600)? {
            limits.lockout_first = SignedDuration::from_secs(seconds);
        }
        if let Some(number) = self.terminal_requests_per_second {
            within("terminal_requests_per_second", Some(i64::from(number)), 10, 1_000_000)?;
            (limits.terminal_requests_per_second, limits.terminal_burst) = (number, 4 * number);
        }
        if let Some(number) = self.person_requests_per_second {
            within("person_requests_per_second", Some(i64::from(number)), 10, 1_000_000)?;
            (limits.person_requests_per_second, limits.person_burst) = (number, 4 * number);
        }
        Ok(limits)
    }
}

impl RawConfig {
    fn witnesses(&self) -> Result<Witnesses, ConfigError> {
        let mut witnesses = Witnesses::default();
        let seconds = |value: i64| Duration::from_secs(value.unsigned_abs());
        if let Some(every) = within("witness_interval_seconds", self.witness_interval_seconds, 1, 3600)? {
            witnesses.interval = seconds(every);
        }
        let least = 2 * i64::try_from(witnesses.interval.as_secs()).unwrap_or(i64::MAX);
        witnesses.wait =
            within("witness_wait_seconds", self.witness_wait_seconds, least, 86_400)?.map(seconds);
        for (index, raw) in self.witness.iter().enumerate() {
            let place = match raw {
                RawWitness { file: Some(path), syslog: None, url: None, key: None } => {
                    Place::File(path.clone())
                }
                RawWitness { file: None, syslog: Some(path), url: None, key: None } => {
                    Place::Syslog(path.clone())
                }
                RawWitness { file: None, syslog: None, url: Some(url), key: Some(key) }
                    if url.starts_with("http://") =>
                {
                    let key = key.parse().map_err(|_| ConfigError::Witness(index))?;
                    Place::Http { url: url.clone(), key }
                }
                _ => return Err(ConfigError::Witness(index)),
            };
            witnesses.places.push(place);
        }
        Ok(witnesses)
    }
}

impl Config {
    /// The file, if any, overridden by the command line.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn resolve(args: &ServeArgs) -> Result<Self, ConfigError> {
        let raw = match &args.config {
            Some(path) => RawConfig::read(path)?,
            None => RawConfig::default(),
        };
        let limits = raw.limits()?;
        let witnesses = raw.witnesses()?;
        for (index, name) in raw.names.iter().enumerate() {
            let valid = rustls_pki_types::ServerName::try_from(name.as_str()).is_ok();
            if !valid {
                return Err(ConfigError::Name { index, name: name.clone() });
            }
        }
        let data_dir = args.data_dir.clone().or(raw.data_dir);
        let store = match (&args.store, &raw.store) {
            (Some(location), _) => Some(location.clone()),
            (None, Some(text)) => Some(text.parse()?),
            (None, None) => None,
        };
        if data_dir.is_none() && store.is_none() {
            return Err(ConfigError::NoDataDir);
        }
        Ok(Self {
            data_dir,
            store,
            listen: args
                .listen
                .or(raw.listen)
                .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))),
            names: raw.names,
            root_key_file: args.root_key_file.clone().or(raw.root_key_file),
            limits,
            witnesses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        match toml::from_str::<RawConfig>(text) {
            Err(error) => error.to_string(),
            Ok(raw) => raw.limits().unwrap_err().to_string(),
        }
    }

    #[test]
    fn faults_name_the_field() {
        assert!(fault("lissten = '0.0.0.0:1'").contains("lissten"));
        assert!(fault("listen = 'here'").contains("listen"));
        assert!(fault("grant_minutes = 0").contains("grant_minutes"));
        assert!(fault("session_minutes = 60\nsession_idle_minutes = 61").contains("session_idle_minutes"));
        assert!(fault("lockout_after = 1").contains("lockout_after"));
    }

    #[test]
    fn the_example_shows_the_shipped_limits() {
        let text = include_str!("../../deploy/examples/keyserver.toml");
        let raw: RawConfig = toml::from_str(text).unwrap();
        assert_eq!(format!("{:?}", raw.limits().unwrap()), format!("{:?}", Limits::default()));
        assert!(
            toml::from_str::<RawConfig>(
                &text.replace("#root_key_file", "root_key_file").replace("#store", "store")
            )
            .is_ok()
        );
    }

    #[test]
    fn a_witness_is_one_of_three() {
        let read = |text: &str| toml::from_str::<RawConfig>(text).unwrap().witnesses();
        let good =
            read("witness_wait_seconds = 20\n[[witness]]\nfile = '/w'\n[[witness]]\nsyslog = '/dev/log'")
                .unwrap();
        assert_eq!(good.places, [Place::File("/w".into()), Place::Syslog("/dev/log".into())]);
        assert_eq!(good.wait, Some(Duration::from_secs(20)));
        for bad in [
            "",
            "file = '/w'\nsyslog = '/l'",
            "url = 'http://w'",
            "url = 'https://w'\nkey = 'k'",
            "key = 'k'",
        ] {
            assert!(matches!(read(&format!("[[witness]]\n{bad}")), Err(ConfigError::Witness(0))), "{bad}");
        }
        assert!(read("witness_wait_seconds = 19").is_err(), "less than two intervals");
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.toml");
        std::fs::write(&path, "data_dir = '/a'\nlisten = '0.0.0.0:1'\ngrant_minutes = 5").unwrap();
        let args = ServeArgs {
            config: Some(path),
            data_dir: None,
            store: None,
            listen: Some("127.0.0.1:2".parse().unwrap()),
            root_key_file: None,
        };
        let config = Config::resolve(&args).unwrap();
        assert_eq!(config.data_dir.as_deref(), Some(Path::new("/a")));
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.limits.grant_life, SignedDuration::from_mins(5));
    }
}
