//! Faults of the disk: full, limited, or read-only.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::Instant;

use crate::{guest::Guest, ops::faults::Scene, process::Process};

/// A separate file system, if root may create one.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Fills the disk, including space that others free, until stopped.
struct Filler {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Filler {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut file, is_over) = (fs::File::create(&path).expect("made"), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                for size in [1 << 16, 1 << 12, 1] {
                    while file.write_all(&vec![1; size]).is_ok() {}
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { path, stop, thread }
    }

    fn remove(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        fs::remove_file(self.path).expect("removed");
    }
}

/// Limits the file size of a process.
fn limit_files(server: &Process, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.id()).expect("in range")).expect("a process");
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None })
        .expect("a limit of one's own process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_with_503_until_there_is_room() {
    let Some(disk) = Disk::mount(&["-t", "tmpfs", "-o", "size=48m", "leadwire-faults"]) else {
        println!("no file system can be mounted here: the limit on file sizes stands for the full disk");
        return;
    };
    println!("full disk: a tmpfs of 48 MiB");
    let scene = Scene::begin(disk.path()).await;
    for round in 0..3 {
        let filler = Filler::start(disk.path().join("filler"));
        scene.writes_fail().await;
        scene.refuses_with_reason().await;
        scene.not_ready("writes", &["disk_full"]).await;
        let plugin = scene.home.path().join(format!("plugins/late-{round}.wasm"));
        fs::write(plugin, Guest::redactor(&format!("late-{round}")).build()).expect("written");
        if round == 0 {
            scene.not_ready("plugins", &["failing"]).await;
        }

        filler.remove();
        scene.recovers(Instant::now()).await;
        scene
            .until("the plugin that came meanwhile is loaded", async |scene| {
                let plugins = scene.get("/api/plugins").await.expect(reqwest::StatusCode::OK);
                let states = plugins["items"].as_array().expect("plugins").iter().map(|plugin| &plugin["state"]);
                states.filter(|state| *state == "active").count() == round + 1
            })
            .await;
    }
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_size_limit_refuses_writes_and_does_not_kill() {
    println!("limit on file sizes: RLIMIT_FSIZE of the process that serves");
    let disk = tempfile::tempdir().expect("a folder");
    let scene = Scene::begin(disk.path()).await;
    for _ in 0..3 {
        limit_files(&scene.server, Some(1 << 16));
        scene.writes_fail().await;
        scene.refuses_with_reason().await;
        scene.not_ready("writes", &["io_error"]).await;
        limit_files(&scene.server, None);
        scene.recovers(Instant::now()).await;
    }
    scene.nothing_is_lost().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_turns_read_only_is_reported_and_loses_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let image = home.path().join("disk.img");
    fs::File::create(&image).expect("made").set_len(24 << 20).expect("a sparse file");
    let mkfs = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).stderr(Stdio::null()).status();
    let image = image.to_str().expect("utf-8");
    let disk = mkfs.is_ok_and(|status| status.success()).then(|| Disk::mount(&["-o", "loop", image])).flatten();
    let Some(disk) = disk else {
        println!("no ext4 can be mounted here: the limit on file sizes stands for the read-only file system");
        return;
    };
    println!("read-only: an ext4 that is aborted, as after a fault of its disk");
    let mut scene = Scene::begin(disk.path()).await;
    // Between two writes: an fsync during which the file system is aborted can report success for data not on disk.
    let pause = scene.writers.pace.write().await;
    // A plain remount is refused while files are open for writing.
    let aborted = Command::new("mount").args(["-o", "remount,abort"]).arg(disk.path()).status().expect("mount runs");
    assert!(aborted.success());
    drop(pause);
    scene.writes_fail().await;
    scene.refuses_with_reason().await;
    scene.not_ready("writes", &["read_only"]).await;
    assert!(scene.server.log().contains("read-only"), "{}", scene.server.log());

    // The operator mounts the disk again.
    scene.stop_writers().await;
    scene.server.kill();
    let umount = Command::new("umount").arg(disk.path()).status().expect("umount runs");
    assert!(umount.success());
    let _ = Command::new("fsck.ext4").args(["-p", image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let mount = Command::new("mount").args(["-o", "loop", image]).arg(disk.path()).status().expect("mount runs");
    assert!(mount.success());
    scene.nothing_is_lost().await;
}
