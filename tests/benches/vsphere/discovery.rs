//! V1: all that discovery reads of a vCenter, by our client and by VMware's own two, each in a process of its own.

use crate::meter::{Cost, Meter};
use crate::report::{self, Limit};
use crate::site::{Site, connect, place};
use crate::{MIB, Outcome};
use serde_json::{Value, json};
use site_recovery_vim::{Network, NetworkEntity};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What our client reads of each kind, for the peers to read the same.
fn properties() -> Value {
    json!({
        "Datacenter": ["name", "parent", "vmFolder", "datastore"],
        "Folder": ["name", "parent"],
        "HostSystem": [
            "name", "parent", "runtime.connectionState", "runtime.inMaintenanceMode", "summary.config.product.version",
            "summary.hardware.uuid", "configManager.autoStartManager", "datastore", "network",
        ],
        "ComputeResource": ["name", "parent", "host", "resourcePool"],
        "Datastore": [
            "name", "parent", "summary.type", "summary.url", "summary.capacity", "summary.freeSpace",
            "summary.accessible", "summary.maintenanceMode", "host",
        ],
        "Network": ["name"],
        "DistributedVirtualSwitch": ["uuid"],
        "DistributedVirtualPortgroup": ["key", "config.distributedVirtualSwitch"],
        "VirtualMachine": [
            "name", "parent", "resourcePool", "datastore", "network", "disabledMethod", "runtime.powerState",
            "runtime.host", "runtime.connectionState", "runtime.consolidationNeeded", "runtime.bootTime", "runtime.question",
            "capability.changeTrackingSupported", "config.template", "config.changeVersion", "config.uuid",
            "config.instanceUuid", "config.version", "config.firmware", "config.bootOptions.efiSecureBootEnabled",
            "config.guestId", "config.guestFullName", "config.annotation", "config.files.vmPathName",
            "config.flags.diskUuidEnabled", "config.changeTrackingEnabled", "config.hardware.numCPU",
            "config.hardware.memoryMB", "config.hardware.device", "config.extraConfig", "guest.toolsRunningStatus",
            "guest.toolsVersionStatus2", "guest.guestFamily", "guest.hostName", "guest.net", "snapshot",
        ],
    })
}

/// A client, and how it is started.
struct Peer {
    name: &'static str,
    program: PathBuf,
    words: Vec<String>,
}

pub(crate) fn against_vmwares_clients(machines: usize, pairs: usize) -> Outcome<()> {
    let peers = [python()?, go()?];
    let site = Site::start(machines)?;
    let (meter, [url, user, password, pin]) = (Meter::new(), site.words()?);
    let certificate = site.certificate().to_str().ok_or("a path in UTF-8")?.to_owned();
    let ours = Peer {
        name: "ours",
        program: std::env::current_exe()?,
        words: ["--child", "discover", &url, &user, &password, &pin].map(str::to_owned).to_vec(),
    };
    let peers = peers.map(|peer| {
        let trust = if peer.name == "pyVmomi" { &pin } else { &certificate };
        let more = [&url, &user, &password, trust, &properties().to_string()].map(String::clone);
        Peer { words: [peer.words, more.to_vec()].concat(), ..peer }
    });
    // Warms the server up, and says what has to be found.
    let (_, expected) = run(&meter, &ours)?;
    if expected["VirtualMachine"] != machines {
        return Err(format!("{machines} machines are there, and this was found: {expected}").into());
    }
    let mut most = 0.0;
    for peer in &peers {
        let mut costs = vec![];
        for number in 0..pairs {
            let both = if number % 2 == 0 { [&ours, peer] } else { [peer, &ours] };
            let mut pair = both.map(|one| run(&meter, one));
            if number % 2 == 1 {
                pair.reverse();
            }
            let [first, second] = pair;
            let ((ours, counted), (theirs, by_peer)) = (first?, second?);
            if counted != expected || by_peer != expected {
                return Err(format!("ours found {counted}, {} {by_peer}", peer.name).into());
            }
            costs.push((ours, theirs));
        }
        let of = |part: fn(&Cost) -> f64| costs.iter().map(|(a, b)| (part(a), part(b))).collect::<Vec<_>>();
        let what = format!("discovery of {machines} machines, against {}", peer.name);
        report::pairs("V1", &format!("CPU s, {what}"), &of(|c| c.cpu), Limit::AtMost(0.5));
        report::pairs("V1", &format!("wall s, {what}"), &of(|c| c.wall), Limit::AtMost(1.0));
        report::pairs("V1", &format!("most memory, MiB, {what}"), &of(|c| c.memory / MIB), Limit::None);
        most = costs.iter().map(|(ours, _)| ours.memory).fold(most, f64::max);
    }
    // What a process takes by itself, and 10 KiB a machine.
    let limit = Limit::AtMost(16.0 + machines as f64 / 100.0);
    report::figure("V1", "most memory of all runs of ours, MiB", most / MIB, limit);
    eprintln!("found: {expected}");
    Ok(())
}

fn run(meter: &Meter, one: &Peer) -> Outcome<(Cost, Value)> {
    let ran = meter.run(&one.program, &one.words, &[]);
    let (cost, said) = ran.map_err(|e| format!("{}: {e}", one.name))?;
    Ok((cost, serde_json::from_str(&said)?))
}

fn python() -> Outcome<Peer> {
    let script = place("tests/benches/vsphere/discover.py")?;
    let words = vec![script.to_str().ok_or("a path in UTF-8")?.to_owned()];
    // Not resolved: Python knows its packages by where it is started.
    let program = place("target/tools/pyvmomi")?.join("bin/python");
    Ok(Peer { name: "pyVmomi", program, words })
}

/// Built with what the simulator was built with.
fn go() -> Outcome<Peer> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("govmomi-peer");
    let (tools, sources) = (place("target/tools")?, place("tests/benches/vsphere/govmomi")?);
    let newer = tools.join("go-bin/bin/go");
    let built = Command::new(if newer.is_file() { newer } else { "go".into() })
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(sources)
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOFLAGS", "-modcacherw -mod=readonly -buildvcs=false")
        .env("GOPATH", tools.join("go-path"))
        .env("GOMODCACHE", tools.join("go-modules"))
        .env("GOCACHE", tools.join("go-cache"))
        .status()
        .map_err(|e| format!("go: {e}"))?;
    if !built.success() {
        return Err("the peer in Go does not build: tests/run --setup gets its modules".into());
    }
    Ok(Peer { name: "govmomi", program, words: vec![] })
}

/// Discovery by our client: all of it is kept until the end.
pub(crate) async fn child(words: &[String]) -> Outcome<()> {
    let (vim, _) = connect(words).await?;
    let machines = vim.machines_whole(&vim.content().root_folder).await?;
    let (hosts, computes) = (vim.hosts().await?, vim.computes().await?);
    let (datacenters, folders) = (vim.datacenters().await?, vim.folders().await?);
    let (datastores, networks) = (vim.datastores().await?, vim.networks().await?);
    let details = || machines.iter().filter_map(|machine| machine.details.as_deref());
    let switch_of = |network: &NetworkEntity| match &network.backing {
        Some(Network::Distributed { switch_uuid, .. }) => Some(switch_uuid.clone()),
        _ => None,
    };
    let groups: Vec<String> = networks.iter().filter_map(switch_of).collect();
    println!(
        "{}",
        json!({
            "VirtualMachine": machines.len(), "HostSystem": hosts.len(), "ComputeResource": computes.len(),
            "Datacenter": datacenters.len(), "Folder": folders.len(), "Datastore": datastores.len(),
            "Network": networks.len(),
            "DistributedVirtualPortgroup": groups.len(),
            "DistributedVirtualSwitch": groups.iter().collect::<BTreeSet<_>>().len(),
            "disks": details().map(|d| d.devices.disks.len()).sum::<usize>(),
            "nics": details().map(|d| d.devices.nics.len()).sum::<usize>(),
            "extra": details().map(|d| d.extra.len()).sum::<usize>(),
        })
    );
    vim.log_out().await?;
    Ok(())
}
