//! Rebuilds the crate when the embedded web pages change, including added and removed files.

fn main() {
    println!("cargo::rerun-if-changed=../../web/dist");
}
