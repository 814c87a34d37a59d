//! Names that nobody guesses.

use ring::rand::{SecureRandom as _, SystemRandom};

pub(crate) fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
    bytes
}

pub(crate) fn token() -> String {
    bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn uuid() -> String {
    let all = token();
    format!("{}-{}-{}-{}-{}", &all[..8], &all[8..12], &all[12..16], &all[16..20], &all[20..])
}
