//! Makes Rust of the protocol's descriptions, by a compiler that is Rust, too.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in ["control", "enrolment"] {
        let path = format!("proto/{file}.proto");
        println!("cargo::rerun-if-changed={path}");
        tonic_prost_build::configure().compile_fds(protox::compile([path], ["proto"])?)?;
    }
    Ok(())
}
