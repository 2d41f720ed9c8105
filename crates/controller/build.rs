//! The binary carries the pages and the providers' descriptors: a file that comes or goes there is a reason to build again.

fn main() {
    println!("cargo::rerun-if-changed=../../web/dist");
    println!("cargo::rerun-if-changed=../../providers");
}
