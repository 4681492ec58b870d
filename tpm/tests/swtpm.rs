//! Against swtpm, a TPM in software. Skips loudly where it is not installed.
#![cfg(feature = "device")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tobari_tpm::{Sealed, Tpm};

/// A running swtpm with a state of its own.
struct Software {
    process: Child,
    name: String,
}

impl Drop for Software {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Software {
    /// None where swtpm is not installed.
    fn start(state: &Path) -> Option<Self> {
        if Command::new("swtpm")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            skipped("swtpm is not installed: apt-get install swtpm");
            return None;
        }
        // Two ports beside each other; somebody else may be faster.
        for _ in 0..50 {
            let first = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let Some(second) = first.checked_add(1) else { continue };
            let port = |port: u16| format!("type=tcp,bindaddr=127.0.0.1,port={port}");
            let mut process = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
                .arg(format!("dir={}", state.display()))
                .args(["--server", &port(first), "--ctrl", &port(second)])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let patience = Instant::now() + Duration::from_secs(60);
            while Instant::now() < patience && process.try_wait().unwrap().is_none() {
                let there = |port| TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok();
                if there(second) {
                    let name = format!("swtpm:host=127.0.0.1,port={first}");
                    return Some(Self { process, name });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("swtpm does not start");
    }

    fn tpm(&self) -> Tpm {
        Tpm::new(&self.name).unwrap()
    }
}

#[test]
fn a_key_is_opened_by_its_tpm_alone() {
    let (one, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(software) = Software::start(one.path()) else { return };
    let key = [7; 32];
    let sealed = software.tpm().seal(&key).unwrap();
    assert_eq!(*software.tpm().unseal(&sealed).unwrap(), key);
    assert!(!sealed.private.windows(8).any(|part| part == [7; 8]));
    for place in [0, sealed.private.len() / 2, sealed.private.len() - 1] {
        let mut changed = sealed.clone();
        changed.private[place] ^= 1;
        assert!(software.tpm().unseal(&changed).is_err(), "{place}");
    }
    // After a restart of the chip.
    drop(software);
    let software = Software::start(one.path()).unwrap();
    assert_eq!(*software.tpm().unseal(&sealed).unwrap(), key);
    let other = Software::start(another.path()).unwrap();
    assert!(other.tpm().unseal(&sealed).is_err());
    drop(other);
    assert!(Tpm::new(&software.name).unwrap().unseal(&Sealed { public: vec![], private: vec![] }).is_err());
}

#[test]
fn a_counter_never_goes_back() {
    let state = tempfile::tempdir().unwrap();
    let Some(software) = Software::start(state.path()) else { return };
    let (tpm, secret) = (software.tpm(), [5; 32]);
    let index = tpm.make_counter(&secret).unwrap();
    let first = tpm.counter(index, &secret).unwrap();
    tpm.count(index, &secret).unwrap();
    assert_eq!(tpm.counter(index, &secret).unwrap(), first + 1);
    // Nobody else counts it, and it is not locked by who tries.
    for _ in 0..40 {
        assert!(tpm.count(index, &[6; 32]).is_err());
    }
    assert_eq!(tpm.counter(index, &secret).unwrap(), first + 1);
    let second = tpm.make_counter(&secret).unwrap();
    assert_ne!(second, index);
    // After a restart, and when it is removed and made again.
    drop(software);
    let software = Software::start(state.path()).unwrap();
    let tpm = software.tpm();
    assert_eq!(tpm.counter(index, &secret).unwrap(), first + 1);
    tpm.remove_counter(index).unwrap();
    assert!(tpm.counter(index, &secret).is_err());
    assert_eq!(tpm.make_counter(&secret).unwrap(), index);
    assert!(tpm.counter(index, &secret).unwrap() > first + 1);
}

/// Says what is not tested here; past the capture of output, which keeps what a passing test prints from everybody.
fn skipped(what: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("!! SKIPPED: {what}\n").as_bytes());
}
