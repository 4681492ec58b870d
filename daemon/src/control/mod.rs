//! The control socket: who may speak, how many at a time, and how it stops.
//!
//! Anybody on the host may connect (the socket is 0666); who they are is the kernel's word (`SO_PEERCRED`), and what
//! they may do is decided per request. Each connection has a thread of its own and a place in a count for all
//! and for each uid, so that a slow or hostile client blocks nobody else.

mod connection;
mod requests;

use crate::config::ControlLimits;
use crate::failure::Failure;
use crate::service::{Caller, Service};
use rustix::net::sockopt::socket_peercred;
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tobari_core::proto::frame::send_frame;
use tobari_core::proto::problem::ProblemCode;

/// A client that does not read its events is given up after this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in work are waited for at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The listening socket and its connections. Dropping it does not stop it; [`Control::stop`] does.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: Arc<UnixListener>,
    connections: Arc<Connections>,
    acceptor: JoinHandle<()>,
}

impl Control {
    /// Listens at `path` and serves.
    ///
    /// # Errors
    /// When another daemon listens there, or the path cannot be made.
    pub fn start(path: &Path, limits: ControlLimits, service: Arc<Service>) -> io::Result<Self> {
        let listener = Arc::new(listen(path)?);
        let connections = Arc::new(Connections::default());
        let acceptor = std::thread::Builder::new().name(String::from("control")).spawn({
            let (listener, connections) = (Arc::clone(&listener), Arc::clone(&connections));
            move || accept(&listener, limits, &connections, &service)
        })?;
        Ok(Self { path: path.to_owned(), listener, connections, acceptor })
    }

    /// Takes no more requests, waits a while for those in work, and removes the socket.
    pub fn stop(self) {
        let _best_effort = std::fs::remove_file(&self.path);
        // On Linux this wakes `accept`, with an error.
        let _woken = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        let _ended = self.acceptor.join();
        self.connections.close(Shutdown::Read);
        if !self.connections.wait_for_none(STOP_TIMEOUT) {
            tracing::warn!("requests in work were cut off");
            self.connections.close(Shutdown::Both);
            self.connections.wait_for_none(Duration::from_secs(1));
        }
    }
}

/// Binds the socket. A file left by a daemon that was killed is replaced; one that answers is not.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another tobarid listens there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn accept(
    listener: &UnixListener,
    limits: ControlLimits,
    connections: &Arc<Connections>,
    service: &Arc<Service>,
) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // `shutdown` was called.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
            Err(error) => {
                // Out of descriptors or memory: wait for others to end.
                tracing::warn!(%error, "failed to accept a connection");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if let Err(error) = serve(stream, limits, connections, service) {
            tracing::warn!(%error, "failed to serve a connection");
        }
    }
}

fn serve(
    stream: UnixStream,
    limits: ControlLimits,
    connections: &Arc<Connections>,
    service: &Arc<Service>,
) -> io::Result<()> {
    let caller = Caller { uid: socket_peercred(&stream)?.uid.as_raw() };
    stream.set_read_timeout(Some(limits.idle))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let Some(place) = connections.enter(caller, stream.try_clone()?, limits) else {
        let full = Failure::new(ProblemCode::TooManyRequests, "tobarid has too many connections; try again");
        // The buffer of a fresh socket has room for it: this does not block.
        return send_frame(&stream, &full.into_event(), &[]);
    };
    let service = Arc::clone(service);
    std::thread::Builder::new().name(format!("uid {}", caller.uid)).spawn(move || {
        connection::run(&stream, caller, &service);
        drop(stream);
        drop(place);
    })?;
    Ok(())
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<Open>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    streams: HashMap<u64, (Caller, UnixStream)>,
}

impl Connections {
    fn enter(self: &Arc<Self>, caller: Caller, stream: UnixStream, limits: ControlLimits) -> Option<Place> {
        let mut open = self.open();
        let own = open.streams.values().filter(|(other, _)| *other == caller).count();
        if open.streams.len() >= limits.connections || own >= limits.connections_per_user {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, (caller, stream));
        Some(Place { connections: Arc::clone(self), number })
    }

    fn close(&self, how: Shutdown) {
        for (_, stream) in self.open().streams.values() {
            let _already_gone = stream.shutdown(how);
        }
    }

    fn wait_for_none(&self, timeout: Duration) -> bool {
        let open = self.open();
        let waited = self.left.wait_timeout_while(open, timeout, |open| !open.streams.is_empty());
        waited.is_ok_and(|(open, _)| open.streams.is_empty())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the count; leaves it when dropped, also by a panic.
#[derive(Debug)]
struct Place {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().streams.remove(&self.number);
        self.connections.left.notify_all();
    }
}

#[cfg(test)]
mod tests;
