//! Rebuilds the crate when the embedded web pages or provider descriptors change, including added and removed files.

fn main() {
    println!("cargo::rerun-if-changed=../../web/dist");
    println!("cargo::rerun-if-changed=../../providers");
}
