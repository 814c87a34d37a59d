//! Frames are Ethernet's as QEMU's `-netdev dgram` hands them over, one to a datagram of a Unix socket.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the guests' program listens on.
const PORT: u16 = 7000;
/// The host's own, on every network.
const HOST_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xfe];
const TURN: Duration = Duration::from_millis(50);

/// A network of machines that nothing else is on: the host forwards every frame to all other ports, and keeps what the
/// guests said by UDP. Blocking, with a thread for each port. Ends when dropped.
#[derive(Debug)]
pub struct Lan {
    dir: PathBuf,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A datagram of a guest's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The port of the network that it came in by.
    pub port: String,
    /// Whom it came from.
    pub from: Ipv4Addr,
    /// `BEACON name n`, `DURABLE name n`, `PONG text name n`.
    pub text: String,
}

#[derive(Debug, Default)]
struct Shared {
    ports: Mutex<Vec<Arc<Port>>>,
    heard: Mutex<Vec<Heard>>,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Port {
    name: String,
    /// Bound to the host's end.
    socket: UnixDatagram,
    machine: PathBuf,
    frames: AtomicU64,
}

impl Lan {
    /// A network whose sockets lie in this directory. One to a directory.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), shared: Arc::default(), threads: vec![] }
    }

    /// Adds a port, and returns QEMU's options for a machine at it; several machines can use it one after another.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn port(&mut self, name: &str) -> io::Result<Vec<String>> {
        let (number, backend) = (self.threads.len(), self.backend(name)?);
        let device = format!("virtio-net-pci,netdev={name},mac=52:54:00:00:00:{number:02x},romfile=");
        Ok(vec!["-netdev".into(), format!("{backend},id={name}"), "-device".into(), device])
    }

    /// Adds a port, and returns what QEMU's `-netdev` says of it, but for its `id`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn backend(&mut self, name: &str) -> io::Result<String> {
        let (host, machine) =
            (self.dir.join(format!("{name}.host")), self.dir.join(format!("{name}.machine")));
        let socket = UnixDatagram::bind(&host)?;
        socket.set_read_timeout(Some(TURN))?;
        // A machine that does not take its frames loses them, and holds up nobody.
        socket.set_write_timeout(Some(TURN))?;
        let shared = self.shared.clone();
        let port = Arc::new(Port {
            name: name.to_owned(),
            socket,
            machine: machine.clone(),
            frames: AtomicU64::default(),
        });
        locked(&shared.ports).push(port.clone());
        self.threads.push(std::thread::spawn(move || shared.serve(&port)));
        let (host, machine) = (host.display(), machine.display());
        Ok(format!("dgram,local.type=unix,local.path={machine},remote.type=unix,remote.path={host}"))
    }

    /// How many frames of any kind came in by a port until now.
    pub fn frames(&self, port: &str) -> u64 {
        let ports = locked(&self.shared.ports);
        ports.iter().filter(|p| p.name == port).map(|p| p.frames.load(SeqCst)).sum()
    }

    /// What was heard until now.
    pub fn heard(&self) -> Vec<Heard> {
        locked(&self.shared.heard).clone()
    }

    /// Asks whoever has this address, from an address of the host's beside it, and waits for an answer: `PONG text name n`.
    /// Nothing when none came.
    pub fn ping(&self, ip: Ipv4Addr, text: &str, bound: Duration) -> Option<String> {
        let [a, b, c, _] = ip.octets();
        let frame = datagram(Ipv4Addr::new(a, b, c, 254), ip, format!("PING {text}").as_bytes());
        let answer = format!("PONG {text} ");
        for turn in 0..=bound.as_millis() / TURN.as_millis() {
            // A datagram may be lost.
            if turn % 20 == 0 {
                self.shared.send(None, &frame);
            }
            let answered = |h: &Heard| h.from == ip && h.text.starts_with(&answer);
            if let Some(heard) = locked(&self.shared.heard).iter().rfind(|h| answered(h)) {
                return Some(heard.text.clone());
            }
            std::thread::sleep(TURN);
        }
        None
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self, port: &Port) {
        let mut bytes = [0; 65536];
        while !self.ended.load(SeqCst) {
            let Ok(len) = port.socket.recv(&mut bytes) else { continue };
            let frame = &bytes[..len];
            port.frames.fetch_add(1, SeqCst);
            if let Some((from, text)) = said(frame) {
                locked(&self.heard).push(Heard { port: port.name.clone(), from, text });
            }
            if let Some(answer) = host_address(frame) {
                let _ = port.socket.send_to(&answer, &port.machine);
            }
            self.send(Some(port), frame);
        }
    }

    /// To all ports but this one.
    fn send(&self, from: Option<&Port>, frame: &[u8]) {
        let ports = locked(&self.ports).clone();
        for port in ports.iter().filter(|p| from.is_none_or(|from| from.name != p.name)) {
            let _ = port.socket.send_to(frame, &port.machine);
        }
    }
}

/// A poisoned lock holds whole values all the same.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text of a datagram from the guests' port.
fn said(frame: &[u8]) -> Option<(Ipv4Addr, String)> {
    let packet = frame.strip_prefix(frame.get(..12)?)?.strip_prefix(&[8, 0])?;
    let header = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let udp = packet.get(header..total)?;
    let from = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    let right = packet[9] == 17 && udp.get(..2)? == PORT.to_be_bytes();
    right.then(|| (from.into(), String::from_utf8_lossy(&udp[8..]).into_owned()))
}

/// The answer to whoever asks for the host's hardware address.
fn host_address(frame: &[u8]) -> Option<Vec<u8>> {
    const REQUEST: [u8; 10] = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    let asked = frame.get(38..42)?;
    if frame[12..22] != REQUEST || asked[3] != 254 {
        return None;
    }
    let mut answer = [&frame[6..12], &HOST_MAC, &REQUEST].concat();
    answer[21] = 2;
    answer.extend([&HOST_MAC, asked, &frame[22..32]].concat());
    Some(answer)
}

/// A frame to all, for one address.
fn datagram(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp = payload.len() as u16 + 8;
    let mut header = vec![0x45, 0];
    header.extend((udp + 20).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let words = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>();
    let sum = !((words & 0xffff) + (words >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    // No sum of the datagram: it is allowed to have none.
    let ports = [PORT.to_be_bytes(), PORT.to_be_bytes(), udp.to_be_bytes(), [0, 0]].concat();
    [&[0xff; 6], &HOST_MAC[..], &[8, 0], &header, &ports, payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_heard_and_an_address_is_told() {
        let from = Ipv4Addr::new(10, 0, 0, 1);
        let frame = datagram(from, Ipv4Addr::new(10, 0, 0, 2), b"BEACON A 7");
        assert_eq!(said(&frame), Some((from, "BEACON A 7".to_owned())));
        for len in 0..frame.len() {
            assert_eq!(said(&frame[..len]), None, "{len} bytes");
        }
        let mac = [0x52, 0x54, 0, 0, 0, 1];
        let request = |last| {
            [
                &[0xff; 6][..],
                &mac,
                &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
                &mac,
                &[10, 0, 0, 1],
                &[0; 6],
                &[10, 0, 0, last],
            ]
            .concat()
        };
        let answer = host_address(&request(254)).unwrap();
        let wanted = [
            &mac[..],
            &HOST_MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
            &HOST_MAC,
            &[10, 0, 0, 254],
            &mac,
            &[10, 0, 0, 1],
        ]
        .concat();
        assert_eq!(answer, wanted);
        assert_eq!(host_address(&request(2)), None);
        assert_eq!(host_address(&frame), None);
        assert_eq!(host_address(&[0; 10]), None);
    }
}
