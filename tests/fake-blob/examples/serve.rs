//! The fake as a process, for clients that are not Rust. One line of JSON tells where it is; it stops with its input.
//!
//! Its account is `vault`, with the key that the line tells, and the container `disks` is to be made. `export` is a disk of
//! 1 MiB with 512 bytes of 5 at 4096, and `before` is the same without.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fake_blob::{Access, Account, Config, Fake, Image};
use serde_json::json;
use std::io::Read;
use std::time::Duration;

fn main() {
    let key = b"a key of an account of this fake";
    let fake = Fake::start(Config::default().with(Account::new("vault").key(key)).list_page(3).range_page(2));
    let before = Image::new(1 << 20);
    let mut disk = before.clone();
    disk.write(4096, &[5; 512]);
    let line = json!({
        "endpoint": fake.endpoint().as_str(),
        "ca": fake.ca_pem(),
        "key": BASE64_STANDARD.encode(key),
        "token": fake.token(Duration::from_secs(3600)),
        "export": fake.export("disk", &disk, Access::read()).as_str(),
        "before": fake.export("before", &before, Access::read()).as_str(),
    });
    println!("{line}");
    // Its end is what matters.
    let _ = std::io::stdin().read_to_end(&mut vec![]);
}
