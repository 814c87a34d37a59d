use crate::{Console, target};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A QEMU that can be started.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// `qemu-system-x86_64`.
    pub program: PathBuf,
    /// Directories of firmware, where the program would look elsewhere.
    pub firmware: Vec<PathBuf>,
}

impl Qemu {
    /// The one that is on the path.
    pub fn installed() -> Self {
        Self { program: "qemu-system-x86_64".into(), firmware: vec![] }
    }

    /// 7.2, the one that Debian 12 has, where `tests/run --setup` could fetch it.
    pub fn old() -> Option<Self> {
        let usr = target().join("tools/qemu-7.2/usr");
        let firmware = vec![usr.join("share/qemu"), "/usr/share/seabios".into(), "/usr/share/qemu".into()];
        Some(Self { program: usr.join("bin/qemu-system-x86_64"), firmware }).filter(|q| q.program.is_file())
    }
}

/// What a machine boots by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, on the machine type `pc`.
    Bios,
    /// OVMF, on `q35`, with the variables in this file: at first a copy of [`Firmware::NEW_VARIABLES`].
    Uefi(PathBuf),
}

impl Firmware {
    /// OVMF's own, as the package `ovmf` has it.
    pub const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    /// Variables of a machine that was never started.
    pub const NEW_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
}

/// A machine for a guest, interpreted (`-accel tcg`): KVM is not to be had everywhere.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What runs it.
    pub qemu: Qemu,
    /// What it boots by.
    pub firmware: Firmware,
    /// Its name, and SMBIOS serial number. The first letter is the site of its records.
    pub name: String,
    /// For the guest, in SMBIOS's `sku`: `delay=50 ip=10.0.0.1 peer=10.0.0.2 second=/dev/vdb hook`.
    pub words: String,
    /// Directory of `console`, `qmp` and `agent`: a file and two sockets that QEMU makes.
    pub dir: PathBuf,
}

impl Machine {
    /// A machine by BIOS, on the installed QEMU, without words.
    pub fn new(name: &str, dir: &Path) -> Self {
        let (name, words, dir) = (name.to_owned(), String::new(), dir.to_owned());
        Self { qemu: Qemu::installed(), firmware: Firmware::Bios, name, words, dir }
    }

    /// The command, with a disk of `format` (`raw`, `qcow2`) as node `disk0` on the device `vda0`.
    pub fn command(&self, disk: &Path, format: &str) -> Command {
        let mut command = Command::new(&self.qemu.program);
        for dir in &self.qemu.firmware {
            command.arg("-L").arg(dir);
        }
        let dir = self.dir.display();
        let base = "-accel tcg -cpu max -m 256 -smp 1 -nodefaults -no-user-config -display none -no-reboot";
        command.args(base.split(' '));
        match &self.firmware {
            Firmware::Bios => command.args(["-machine", "pc"]),
            Firmware::Uefi(variables) => command.args(["-machine", "q35"]).args([
                "-drive".to_owned(),
                format!("if=pflash,format=raw,readonly=on,file={}", Firmware::CODE),
                "-drive".to_owned(),
                format!("if=pflash,format=raw,file={}", variables.display()),
            ]),
        };
        // A comma stands doubled in an option of QEMU's.
        let [name, words] = [&self.name, &self.words].map(|text| text.replace(',', ",,"));
        command.args([
            "-smbios".to_owned(),
            format!("type=1,serial={name},sku={words}"),
            "-serial".to_owned(),
            format!("file:{dir}/console"),
            "-qmp".to_owned(),
            format!("unix:{dir}/qmp,server=on,wait=off"),
            "-chardev".to_owned(),
            format!("socket,id=agent,path={dir}/agent,server=on,wait=off"),
        ]);
        command.args("-device virtio-serial-pci".split(' '));
        command.args("-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0".split(' '));
        let disk = disk.display();
        command.args([
            "-blockdev",
            &format!("driver={format},node-name=disk0,file.driver=file,file.filename={disk}"),
            "-device",
            "virtio-blk-pci,drive=disk0,id=vda0",
        ]);
        command.stdin(Stdio::null());
        command
    }

    /// Starts it.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(&self, disk: &Path, format: &str) -> io::Result<Running> {
        self.run(self.command(disk, format))
    }

    /// Starts it by this command of [`command`](Self::command), to which others may have added.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn run(&self, mut command: Command) -> io::Result<Running> {
        // What an earlier life left would be taken for this one's.
        for left in ["console", "qmp", "agent"] {
            match std::fs::remove_file(self.dir.join(left)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        let child = command.spawn()?;
        Ok(Running { child, console: Console::new(self.dir.join("console")) })
    }
}

/// A machine that was started. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What its guest says.
    pub console: Console,
}

impl Running {
    /// QEMU's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut does, and returns when it has ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// How it ended, or nothing when it still runs by then. Blocks the thread.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait_end(&mut self, bound: Duration) -> io::Result<Option<ExitStatus>> {
        const TURN: Duration = Duration::from_millis(20);
        for _ in 0..=bound.as_millis() / TURN.as_millis() {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(TURN);
        }
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
