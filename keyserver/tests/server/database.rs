//! A PostgreSQL of the test's own: a cluster in a temporary folder that listens on a socket in it and nowhere else. It
//! ends with the test.

use crate::support::skipped;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tobari_keyserver::store::postgres::{Location, PostgresStore};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// How long a database may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// PostgreSQL does not run as root; this is `nobody`.
const NOBODY: u32 = 65_534;
const PORT: u16 = 5432;

pub(crate) struct Database {
    programs: PathBuf,
    /// Before the folder, in which it is mounted.
    disk: Option<Disk>,
    /// Its socket, its log and, unless there is a disk, its data.
    directory: tempfile::TempDir,
    /// Set for the database's processes.
    preload: Option<&'static str>,
    running: Option<Child>,
}

/// A file system of the database's own, in an image, whose power can be cut.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// None, loudly, where it cannot be mounted.
    fn new(directory: &Path) -> Option<Self> {
        let (image, mount) = (directory.join("image"), directory.join("mount"));
        std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        std::fs::create_dir(&mount).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let disk = Self { image, mount };
        let xfs_io = Command::new("xfs_io").arg("-V").output().is_ok();
        if !xfs_io || !rustix::process::geteuid().is_root() || !disk.attach() {
            skipped("the power of a disk cannot be cut here (root, loop devices, xfsprogs)");
            return None;
        }
        std::os::unix::fs::chown(&disk.mount, Some(NOBODY), Some(NOBODY)).unwrap();
        Some(disk)
    }

    fn attach(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&self.image).arg(&self.mount);
        mount.output().unwrap().status.success()
    }

    /// What was not written to the disk is gone, the file system's own log included.
    fn cut(&self) {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mount));
    }

    /// Once the last of the killed processes has let go of it.
    fn detach(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !Command::new("umount").arg(&self.mount).output().unwrap().status.success() {
            assert!(Instant::now() < deadline, "{} stays in use", self.mount.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not mounted any more is not a failure.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where Debian puts the programs, the newest first, or where the search path has them.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut all: Vec<PathBuf> = versions.into_iter().rev().map(|(_, path)| path).collect();
    all.extend(std::env::split_paths(&paths));
    all.into_iter().find(|path| path.join("initdb").exists() && path.join("postgres").exists())
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin").current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Database {
    /// None, loudly, where PostgreSQL is not installed.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_on(|_| Some(None), None).await
    }

    /// A database on a disk whose power can be cut; with `preload`, a library that comes before the system's.
    pub(crate) async fn start_on_disk(preload: Option<&'static str>) -> Option<Self> {
        Self::start_on(|directory| Disk::new(directory).map(Some), preload).await
    }

    async fn start_on(
        disk: impl FnOnce(&Path) -> Option<Option<Disk>>,
        preload: Option<&'static str>,
    ) -> Option<Self> {
        let Some(programs) = programs() else {
            skipped("PostgreSQL is not installed (apt-get install postgresql)");
            return None;
        };
        // Not below $TMPDIR: the path of a socket is at most 107 bytes long.
        let directory = tempfile::Builder::new().prefix("tobari-pg").tempdir_in("/tmp").unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let disk = disk(directory.path())?;
        let mut database = Self { programs, disk, directory, preload, running: None };
        run(as_nobody(&database.programs.join("initdb"))
            .args(["--auth=trust", "--username=tobari", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(database.data())
            .stderr(Stdio::piped()));
        database.run().await;
        Some(database)
    }

    fn data(&self) -> PathBuf {
        let place = self.disk.as_ref().map_or(self.directory.path(), |disk| &disk.mount);
        place.join("data")
    }

    /// What the database has written until now is on its disk, whatever it thinks of that.
    pub(crate) async fn settle(&self) {
        self.run_sql("postgres", "CHECKPOINT").await;
        run(Command::new("sync").arg("-f").arg(&self.disk.as_ref().unwrap().mount));
    }

    /// The power of the disk fails, and everything that ran ends; then the disk is there again.
    pub(crate) fn cut_power(&mut self) {
        self.disk.as_ref().unwrap().cut();
        self.kill();
        let disk = self.disk.as_ref().unwrap();
        disk.detach();
        // The kernel lets go of a loop device after its file system, in its own time.
        let deadline = Instant::now() + PATIENCE;
        while !disk.attach() {
            assert!(Instant::now() < deadline, "{} cannot be mounted again", disk.image.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the database; after a kill it recovers from its log first.
    pub(crate) async fn run(&mut self) {
        self.try_run().await.unwrap();
    }

    /// The same; what its log says if it does not start.
    pub(crate) async fn try_run(&mut self) -> Result<(), String> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let child = as_nobody(&self.programs.join("postgres"))
                .envs(self.preload.map(|library| ("LD_PRELOAD", library)))
                .arg("-D")
                .arg(self.data())
                .arg("-k")
                .arg(self.directory.path())
                .args(["-c", "listen_addresses=", "-c", "max_connections=60", "-c", "shared_buffers=16MB"])
                .stderr(log.try_clone().unwrap())
                .spawn()
                .unwrap();
            self.running = Some(child);
            // It ends by itself while processes of a killed one still hold its memory.
            while self.running.as_mut().unwrap().try_wait().unwrap().is_none() {
                if self.answers().await {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    return Err(format!("PostgreSQL does not start: {}", self.log()));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if Instant::now() > deadline {
                return Err(format!("PostgreSQL does not stay: {}", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn answers(&self) -> bool {
        use sqlx::Connection as _;
        match sqlx::PgConnection::connect(&self.url("postgres")).await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The URL of a database of this cluster.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("postgres://tobari@localhost:{PORT}/{name}?host={}", self.directory.path().display())
    }

    /// A new, empty database.
    pub(crate) async fn create(&self, name: &str) -> Location {
        self.run_sql("postgres", &format!("CREATE DATABASE {name}")).await;
        self.url(name).parse().unwrap()
    }

    pub(crate) async fn run_sql(&self, database: &str, sql: &str) {
        use sqlx::{Connection as _, Executor as _};
        let mut connection = sqlx::PgConnection::connect(&self.url(database)).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A store of its own over a new database.
    /// How many servers wait for a lock that is nobody's row.
    pub(crate) async fn waiting(&self) -> i64 {
        use sqlx::Connection as _;
        let mut connection = sqlx::PgConnection::connect(&self.url("postgres")).await.unwrap();
        let count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap()
    }

    pub(crate) async fn store(&self, name: &str) -> PostgresStore {
        PostgresStore::open(&self.create(name).await).await.unwrap()
    }

    /// Kills every process of the database, as a loss of power would.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        let backends = children(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        for backend in backends {
            let _ = rustix::process::kill_process(backend, rustix::process::Signal::KILL);
        }
    }

    /// A way to this database over TCP that can be cut.
    pub(crate) async fn wire(&self) -> Wire {
        Wire::start(self.directory.path().join(format!(".s.PGSQL.{PORT}"))).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        // At once, but with its shared memory given back.
        let id = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::QUIT);
        let _ = child.wait();
    }
}

/// The processes whose parent this is.
fn children(parent: u32) -> Vec<rustix::process::Pid> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str()?.to_owned();
            let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
            // `pid (name) state parent …`, and the name may hold anything.
            let found: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            (found == parent).then(|| rustix::process::Pid::from_raw(name.parse().ok()?)).flatten()
        })
        .collect()
}

/// A proxy whose connections fall silent, both ways and without being closed, while it is cut.
pub(crate) struct Wire {
    port: u16,
    cut: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

impl Wire {
    async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, is_cut) = watch::channel(false);
        let running = tokio::spawn(async move {
            let mut wires = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                wires.spawn(carry(stream, socket.clone(), is_cut.clone()));
            }
        });
        Self { port, cut, running }
    }

    pub(crate) fn location(&self, name: &str) -> Location {
        format!("postgres://tobari@127.0.0.1:{}/{name}?sslmode=disable", self.port).parse().unwrap()
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn carry(near: TcpStream, socket: PathBuf, cut: watch::Receiver<bool>) {
    let mut first = cut.clone();
    if first.wait_for(|cut| !cut).await.is_err() {
        return;
    }
    let Ok(far) = UnixStream::connect(socket).await else { return };
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::join!(pass(near_in, far_out, cut.clone()), pass(far_in, near_out, cut));
}

async fn pass(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    // The other side's end is passed on once the wire is whole again.
    let _ = cut.wait_for(|cut| !cut).await;
    let _ = to.shutdown().await;
}
