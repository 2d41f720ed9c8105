//! Rebuilds the crate when the embedded provider descriptors change, including added and removed files.

fn main() {
    println!("cargo::rerun-if-changed=../../providers");
}
