//! A mark that woke up with the disks' bytes on another server: nothing is guarded there.

use crate::inventory_tree::{GIB, Tree};
use crate::support::op;
use async_trait::async_trait;
use site_recovery::{Clock, Result, Source, SystemClock};
use site_recovery_physical::agent::{self, Agent, Look, Settings, elsewhere};
use site_recovery_physical::guard::{Ask, Guard, Mark};
use site_recovery_physical::inventory::{Inventory, Server};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const BOARD: &str = "sys/class/dmi/id/product_uuid";

/// The server of a tree.
#[derive(Debug)]
struct Of(PathBuf);

#[async_trait]
impl Look for Of {
    async fn look(&self) -> Result<Server> {
        Inventory::of(&self.0).read()
    }
}

/// Hardware: its board, and its disks by their world-wide names.
pub(crate) fn hardware(board: Option<&str>, disks: &[&str]) -> Tree {
    let tree = Tree::new();
    for (at, id) in disks.iter().enumerate() {
        tree.sata(&format!("sd{}", (b'a' + at as u8) as char), &format!("8:{}", at * 16), GIB, id);
    }
    board.into_iter().for_each(|board| tree.file(BOARD, format!("{board}\n")));
    tree
}

pub(crate) fn settings(state: &Path, tree: &Tree) -> Settings {
    let mut settings = agent::Settings::new("hall-1".into(), "web-1");
    (settings.state, settings.board) = (state.to_owned(), tree.path(BOARD));
    settings
}

/// Enrols the server of that hardware. Its directory is what wakes up elsewhere.
pub(crate) async fn enrolled(state: &Path, tree: &Tree) {
    let settings = settings(state, tree);
    let agent = Agent::open(settings, Arc::new(Of(tree.root().to_owned())), Arc::new(SystemClock)).unwrap();
    let mut machine = agent.discover().await.unwrap().remove(0);
    machine.instance.machine = "m-web".into();
    agent.enrol(&op("enrol"), &machine).await.unwrap();
}

fn told(state: &TempDir, tree: &Tree) -> Option<String> {
    elsewhere(&settings(state.path(), tree), &Inventory::of(tree.root())).unwrap()
}

#[tokio::test]
async fn s2_another_board_without_one_of_its_disks_and_nothing_less_is_another_server() {
    let state = tempfile::tempdir().unwrap();
    let home = hardware(Some("4C4C4544-0001"), &["naa.1", "naa.2"]);
    assert_eq!(told(&state, &home), None, "nobody was enrolled");
    enrolled(state.path(), &home).await;
    assert_eq!(told(&state, &home), None);
    let cloud = hardware(Some("f0000000-aaaa"), &["naa.8", "naa.9"]);
    let why = told(&state, &cloud).expect("another server");
    for part in ["m-web", "4c4c4544-0001", "f0000000-aaaa", "naa.1", "naa.9"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    for (what, tree) in [
        ("its board was exchanged", hardware(Some("4C4C4544-0002"), &["naa.1", "naa.2"])),
        ("and one disk with it", hardware(Some("4C4C4544-0002"), &["naa.1", "naa.7"])),
        ("all disks were exchanged", hardware(Some("4C4C4544-0001"), &["naa.8", "naa.9"])),
        ("the board does not tell", hardware(None, &["naa.8", "naa.9"])),
        ("the board has no id", hardware(Some("00000000-0000-0000-0000-000000000000"), &["naa.8"])),
        ("no disk is seen", hardware(Some("f0000000-aaaa"), &[])),
    ] {
        assert_eq!(told(&state, &tree), None, "{what}: it may be the same one");
    }
    // A loop device comes with the bytes, and is no proof of anything.
    let looped = hardware(Some("f0000000-aaaa"), &[]);
    looped.made("loop0", "7:0", GIB, &[], &[("loop/backing_file", "/srv/disk.img")]);
    assert_eq!(told(&state, &looped), None);
    // Nor is a mark that cannot be read.
    std::fs::write(state.path().join("mark.json"), "{").unwrap();
    elsewhere(&settings(state.path(), &cloud), &Inventory::of(cloud.root())).unwrap_err();
    // What is enrolled where it woke up is guarded there.
    std::fs::remove_file(state.path().join("mark.json")).unwrap();
    enrolled(state.path(), &cloud).await;
    assert_eq!(told(&state, &cloud), None);
    assert!(told(&state, &home).is_some());
}

#[tokio::test]
async fn s2_a_mark_of_a_board_without_an_id_stays_guarded() {
    let state = tempfile::tempdir().unwrap();
    enrolled(state.path(), &hardware(None, &["naa.1"])).await;
    assert_eq!(told(&state, &hardware(Some("f0000000-aaaa"), &["naa.9"])), None);
}

#[tokio::test]
async fn what_is_not_guarded_is_written_down() {
    let state = tempfile::tempdir().unwrap();
    enrolled(state.path(), &hardware(Some("4C4C4544-0001"), &["naa.1"])).await;
    let mark = Mark::read(&state.path().join(Mark::FILE)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let nobody = crate::records::FakeAnswers::of([]) as Arc<dyn Ask>;
    let guard = Guard::new(mark, nobody, state.path().join("guard"), clock);
    guard.void("another board").unwrap();
    guard.void("another board").unwrap();
    let log = std::fs::read_to_string(state.path().join("guard/guard.log")).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains(r#""what":{"other_hardware":{"why":"another board"}}"#), "{log}");
}
