//! The server: disks, a network card, and somebody who switches it.

use async_trait::async_trait;
use serde_json::Value;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_guest::{Console, Machine, Running};
use site_recovery_physical::power::{Keeps, PowerControl, PowerState};
use site_recovery_qmp::{Limits, Monitor};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Serial number of the system disk.
pub const DISK: &str = "QM-SYSTEM-1";
/// The board's id.
const BOARD: &str = "3f0a8f3e-52a1-4c86-9a35-1d2c6b0f7e11";
/// Where the guest is in QEMU's user network, and its host.
pub const GUEST: &str = "10.0.2.15";
pub const HOST: &str = "10.0.2.2";
/// Where its agent listens.
pub const PORT: u16 = 7443;

/// What the machine starts when it is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    Disk,
    Rescue,
}

/// A machine that can be switched. A stand-in for a server and its management controller.
#[derive(Debug)]
pub struct Hardware {
    dir: PathBuf,
    /// On the host: what is said there reaches the guest's agent.
    pub port: u16,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    running: Option<Running>,
    held: bool,
    starts: u32,
}

impl Hardware {
    /// With a copy of the server's disk, and small ones for dm-era and for snapshots.
    pub fn new(dir: &Path) -> Arc<Self> {
        fs::create_dir(dir).unwrap();
        fs::copy(image("server.raw"), dir.join("system.raw")).unwrap();
        for (name, size) in [("era.raw", 16 << 20), ("scratch.raw", 128 << 20)] {
            File::create(dir.join(name)).unwrap().set_len(size).unwrap();
        }
        // Nobody else asks for it before QEMU does.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let now = Mutex::new(Now { running: None, held: false, starts: 0 });
        Arc::new(Self { dir: dir.to_owned(), port, now })
    }

    pub fn disk(&self) -> PathBuf {
        self.dir.join("system.raw")
    }

    /// The drive that is plugged in when the server starts from its disk, or from its rescue system.
    pub fn drive(&self, rescue: bool) -> PathBuf {
        self.dir.join(if rescue { "rescue.tar" } else { "drive.tar" })
    }

    /// Of the start before; made anew by the next one.
    pub fn console(&self) -> Console {
        Console::new(self.dir.join("console"))
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.now.lock().unwrap().starts
    }

    pub fn is_on(&self) -> bool {
        self.now.lock().unwrap().runs()
    }

    /// Presses the button.
    pub fn switch_on(&self) {
        let mut now = self.now.lock().unwrap();
        if now.runs() {
            return;
        }
        let boot = if now.held { Boot::Rescue } else { Boot::Disk };
        now.running = Some(self.start(boot));
        now.starts += 1;
    }

    /// Pulls the plug.
    pub fn cut(&self) {
        if let Some(mut running) = self.now.lock().unwrap().running.take() {
            running.kill().unwrap();
        }
    }

    fn start(&self, boot: Boot) -> Running {
        let stacks = "below=/dev/vdb install=/dev/vdd delay=20";
        let words = match boot {
            Boot::Disk => format!("ip={GUEST} {stacks}"),
            Boot::Rescue => format!("ip={GUEST} rescue=/dev/vdd"),
        };
        let mut machine = Machine::new("A-web", &self.dir);
        machine.words = words;
        let mut command = machine.command(&self.disk(), "raw");
        command.args(["-set", &format!("device.vda0.serial={DISK}"), "-uuid", BOARD, "-m", "512"]);
        let mut plug = |letter: char, name: &str, options: &str| {
            let file = self.dir.join(name).display().to_string();
            command.args([
                "-blockdev".to_owned(),
                format!("driver=raw,node-name=n{letter}{options},file.driver=file,file.filename={file}"),
                "-device".to_owned(),
                format!("virtio-blk-pci,drive=n{letter},id=vd{letter}0"),
            ]);
        };
        plug('b', "era.raw", "");
        plug('c', "scratch.raw", "");
        let drive = if boot == Boot::Rescue { "rescue.tar" } else { "drive.tar" };
        plug('d', drive, ",read-only=on,file.read-only=on");
        let forward = format!("user,id=lan,hostfwd=tcp:127.0.0.1:{}-{GUEST}:{PORT}", self.port);
        command.args(["-netdev", &forward, "-device", "virtio-net-pci,netdev=lan,romfile="]);
        if boot == Boot::Rescue {
            command.arg("-kernel").arg(image("vmlinuz")).arg("-initrd").arg(image("server.gz"));
            command.args(["-append", "console=ttyS0 panic=-1 quiet no_timer_check"]);
        }
        machine.run(command).unwrap()
    }

    fn press(&self) -> Result<()> {
        let said = |e: site_recovery_qmp::Error| Error::new(ErrorKind::Unavailable, e.to_string());
        let mut monitor = Monitor::connect(&self.dir.join("qmp"), Limits::default()).map_err(said)?;
        monitor.call("system_powerdown", Value::Null).map(drop).map_err(said)
    }
}

impl Now {
    fn runs(&mut self) -> bool {
        let ended = self.running.as_mut().is_some_and(|r| r.wait_end(Duration::ZERO).unwrap().is_some());
        if ended {
            self.running = None;
        }
        self.running.is_some()
    }
}

#[async_trait]
impl PowerControl for Hardware {
    async fn state(&self) -> Result<PowerState> {
        Ok(if self.is_on() { PowerState::On } else { PowerState::Off })
    }

    async fn off(&self, grace: Duration) -> Result<bool> {
        if !self.is_on() {
            return Ok(true);
        }
        self.press()?;
        for _ in 0..grace.as_millis() / 100 {
            if !self.is_on() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(false)
    }

    async fn force_off(&self) -> Result<()> {
        self.cut();
        Ok(())
    }

    async fn on(&self) -> Result<()> {
        self.switch_on();
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        Keeps { holds: true, tells: false }
    }

    async fn hold(&self, hold: bool) -> Result<()> {
        self.now.lock().unwrap().held = hold;
        Ok(())
    }

    async fn held(&self) -> Result<Option<bool>> {
        Ok(Some(self.now.lock().unwrap().held))
    }
}

/// A file that `tests/guest/server/build` made.
pub fn image(name: &str) -> PathBuf {
    site_recovery_guest::image().with_file_name(name)
}
