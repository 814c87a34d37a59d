//! Makes Rust of the protocol's descriptions, by a compiler that is Rust, too.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in ["control", "enrolment"] {
        let path = format!("proto/{file}.proto");
        println!("cargo::rerun-if-changed={path}");
        // A join request has a secret in it.
        let configured =
            tonic_prost_build::configure().skip_debug([".site_recovery.enrolment.v1.JoinRequest"]);
        configured.compile_fds(protox::compile([path], ["proto"])?)?;
    }
    Ok(())
}
