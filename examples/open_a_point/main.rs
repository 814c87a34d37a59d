//! A recovery point is a block device at once: nothing is copied, whoever speaks NBD reads it. Many points are made, the
//! oldest and the newest are served, `qemu-img` compares them with what was captured, a file is read out of a mounted one
//! where the machine can mount it, and of a machine that was infected on the way the last clean point is found with a
//! handful of opens.
//!
//! ```text
//! cargo run --example open_a_point --features nbd -- [--points N]     24 if not told; five minutes apart, 288 make a day
//! ```

mod mount;

use site_recovery::{Disk, DiskId, Disks, Error, Point, Pool, Replica, Result, Run};
use site_recovery_examples::{Stage, failed, protect};
use site_recovery_nbd::{Address, Export, Health, RemoteDisk, Server, find_last_clean};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;

const MIB: u64 = 1 << 20;
const NOTE_AT: u64 = 6 * MIB;
const LETTER: &str = "Dear Ana, all of it is still here.";
const NOTE: &str = "your files are encrypted";

#[tokio::main]
async fn main() -> Result<()> {
    let wanted = points_wanted()?;
    let dir = tempfile::tempdir().expect("the system's directory for such can be written");
    let stage = Stage::open(dir.path()).await?;
    stage.add_machine("web", &[("root", 8 * MIB), ("home", 8 * MIB)]).await?;
    let has_files = mount::make_file_system(&stage.disk(&stage.here, "web", "home"), LETTER).await?;
    let (root, image) = (DiskId::from("root"), stage.disk(&stage.here, "web", "root"));
    let infected_from = wanted * 2 / 3;

    // As time goes by: some bytes change, a point is made, and one day there is a note.
    stage.write(&stage.here, "web", "root", MIB, "order 1").await?;
    let vault = stage.vault().await?;
    let web = protect(&vault, "web").await?;
    let captured = |name: &str| {
        let kept = dir.path().join(name);
        std::fs::copy(&image, &kept).map_err(|e| failed("copy to", &kept, e)).map(|_| kept)
    };
    let oldest_image = captured("oldest.raw")?;
    for n in 2..=wanted {
        stage.write(&stage.here, "web", "root", MIB + n * 4096, &format!("order {n}")).await?;
        if n == infected_from {
            stage.write(&stage.here, "web", "root", NOTE_AT, NOTE).await?;
        }
        vault.replicate_now(web.id()).await?;
    }
    let newest_image = captured("newest.raw")?;
    let points = web.points().await?;
    assert_eq!(points.len() as u64, wanted);
    let (oldest, newest) = (points[0].id, points[points.len() - 1].id);
    println!("{wanted} points; the note came with point {}", points[infected_from as usize - 1].id);

    // Served as they are, with what changed between them as a bitmap.
    let disk = async |point| Ok::<_, Error>(disk_of(&stage.points.open(web.id(), point).await?));
    let changes = stage.points.changed(web.id(), Some(oldest), newest).await?.unwrap_or_default();
    let names = [format!("web/root@{oldest}"), format!("web/root@{newest}")];
    let server = Server::builder()
        .export(Export::read_only(&names[0], disk(oldest).await?))
        .export(Export::read_only(&names[1], disk(newest).await?).changed("since-oldest", &changes, &root))
        .listen(Address::Unix(dir.path().join("points.sock")))
        .await?;
    for (name, image) in names.iter().zip([&oldest_image, &newest_image]) {
        println!("serving {}", server.address().uri(name));
        compare(&server, name, image).await?;
    }
    println!("{} bytes changed between them, told as qemu:dirty-bitmap:since-oldest", changes.bytes());
    server.stop(Duration::from_secs(5)).await;

    // A file system in a point, mounted without copying anything.
    if has_files {
        read_the_letter(dir.path(), stage.points.open(web.id(), oldest).await?).await?;
    } else {
        println!("SKIPPED mounting a point: mke2fs is not here");
    }

    // The check sees a point as a scanner would: through an export that lives as long as the check.
    let found = find_last_clean(&*stage.points, web.id(), check).await?;
    let clean = found.clean.expect("the first points are clean").id;
    println!("the last clean point is {clean}; {} of {wanted} points were opened", found.checked.len());
    assert_eq!(clean, points[infected_from as usize - 2].id);

    println!("PROVEN: old and new points read as they were captured, and the last clean one is found");
    Ok(())
}

async fn read_the_letter(dir: &Path, disks: Disks) -> Result<()> {
    let home = Export::read_only("home", Arc::clone(&disks[&DiskId::from("home")]));
    let server = Server::builder().export(home).listen(Address::Unix(dir.join("home.sock"))).await?;
    match mount::letter_in(dir, &server.address().uri("home")).await? {
        Ok(letter) => {
            assert_eq!(letter, LETTER);
            println!("read out of the mounted point: {letter}");
        }
        Err(why) => println!("SKIPPED mounting a point: {why}"),
    }
    server.stop(Duration::from_secs(5)).await;
    Ok(())
}

fn points_wanted() -> Result<u64> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = match &words[..] {
        [] => Some(24),
        [option, number] if option == "--points" => number.parse().ok(),
        _ => None,
    };
    number.filter(|n| (3..=1000).contains(n)).ok_or_else(|| {
        Error::invalid("arguments", format!("{words:?}"), "--points N, 3 to 1000", "give a number within it")
    })
}

fn disk_of(disks: &Disks) -> Arc<dyn Disk> {
    Arc::clone(&disks[&DiskId::from("root")])
}

/// An export and the image that was captured have the same bytes: by `qemu-img` where it is, and by our own client.
async fn compare(server: &Server, export: &str, image: &Path) -> Result<()> {
    let remote = RemoteDisk::builder(server.address().clone(), export).connect().await?;
    let bytes = remote.read(Run::new(0, remote.size()), &Pool::new(8 * MIB as usize)).await?;
    assert!(bytes == std::fs::read(image).map_err(|e| failed("read", image, e))?, "{export} has other bytes");

    let mut command = Command::new("qemu-img");
    command.args(["compare", "-f", "raw", "-F", "raw", &server.address().uri(export)]).arg(image);
    match command.stdin(Stdio::null()).kill_on_drop(true).output().await {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{export}: {said}{}", String::from_utf8_lossy(&output.stderr));
            println!("qemu-img compare: {}", said.trim());
        }
        Err(error) if std::env::var("SITE_RECOVERY_PEERS").as_deref() == Ok("required") => {
            return Err(failed("run", Path::new("qemu-img"), error));
        }
        Err(error) => println!("SKIPPED qemu-img compare: {error}"),
    }
    Ok(())
}

async fn check(point: Point, disks: Disks) -> Result<Health> {
    let export = format!("web/root@{}", point.id);
    let server = Server::builder().export(Export::read_only(&export, disk_of(&disks)));
    let server = server.listen(Address::loopback()).await?;
    let remote = RemoteDisk::builder(server.address().clone(), export).connect().await?;
    let found = remote.read(Run::new(NOTE_AT, NOTE.len() as u64), &Pool::new(4096)).await?;
    let health = if found == NOTE { Health::Infected } else { Health::Clean };
    println!("point {}: {health:?}", point.id);
    server.stop(Duration::from_secs(5)).await;
    Ok(health)
}
