//! The network between hosts: how much goes through, and what does not.

use super::tool::{ip, run};
use super::{Ground, Host};
use std::net::Ipv4Addr;

/// An address of the hardware that nobody has.
const NOBODY: &str = "02:00:00:00:00:ff";

/// Who is on the network: its device, in its namespace or in that of the test process.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub namespace: Option<String>,
    pub device: String,
    pub ip: Ipv4Addr,
}

impl Member {
    fn neighbour(&self, what: &str) {
        let inside = self.namespace.as_ref().map_or(String::new(), |name| format!("-n {name} "));
        ip(&format!("{inside}neighbour {what} dev {}", self.device));
    }

    /// What it sends to that address goes to nobody: it leaves, and neither an error nor a reset comes back.
    fn loses(&self, to: Ipv4Addr) {
        self.neighbour(&format!("replace {to} lladdr {NOBODY} nud permanent"));
    }

    fn reaches(&self, to: Ipv4Addr) {
        self.neighbour(&format!("flush to {to} nud permanent"));
    }
}

impl Host {
    /// Lets no more through than this many bits per second, each way.
    pub fn limit(&self, bits: u64) {
        let rate = format!("{bits}bit");
        for (namespace, device) in self.ends() {
            let words = ["-n", namespace, "qdisc", "replace", "dev", device, "root", "tbf", "rate", &rate];
            run("tc", &[&words[..], &["burst", "32kb", "latency", "100ms"]].concat());
        }
    }

    /// Takes the limit away.
    pub fn unlimited(&self) {
        for (namespace, device) in self.ends() {
            run("tc", &["-n", namespace, "qdisc", "delete", "dev", device, "root"]);
        }
    }

    /// Bytes that came in so far.
    pub fn received(&self) -> u64 {
        let said = self.run("cat", &["/sys/class/net/eth0/statistics/rx_bytes"]);
        said.trim().parse().unwrap()
    }

    /// Pulls the cable: the host sees it, and nothing goes through.
    pub fn unplug(&self) {
        ip(&format!("-n {} link set {} down", self.hub, self.port));
    }

    pub fn plug(&self) {
        ip(&format!("-n {} link set {} up", self.hub, self.port));
    }

    /// One way alone: what this host sends to that address vanishes, and what comes from there arrives.
    pub fn loses(&self, to: Ipv4Addr) {
        self.member.loses(to);
    }

    /// Undoes [`loses`](Self::loses).
    pub fn reaches(&self, to: Ipv4Addr) {
        self.member.reaches(to);
    }

    /// All that this host and those that are there now send to each other vanishes; links stay up, and nothing is reset.
    pub fn black_hole(&self) {
        self.others().iter().for_each(|other| {
            other.loses(self.ip());
            self.loses(other.ip);
        });
    }

    /// Ends whatever was cut off between this host and all others. A limit stays.
    pub fn restore(&self) {
        self.plug();
        self.others().iter().for_each(|other| {
            other.reaches(self.ip());
            self.reaches(other.ip);
        });
    }

    /// The two devices of its link: the one sends, the other receives.
    fn ends(&self) -> [(&str, &str); 2] {
        [(&self.namespace, "eth0"), (&self.hub, &self.port)]
    }

    fn others(&self) -> Vec<Member> {
        let members = self.ground.0.members.lock().unwrap();
        members.iter().filter(|member| *member != &self.member).cloned().collect()
    }
}

impl Ground {
    /// What the test process sends to that address vanishes.
    pub fn loses(&self, to: Ipv4Addr) {
        self.here().loses(to);
    }

    /// Undoes [`loses`](Self::loses).
    pub fn reaches(&self, to: Ipv4Addr) {
        self.here().reaches(to);
    }

    fn here(&self) -> Member {
        self.0.members.lock().unwrap()[0].clone()
    }
}
