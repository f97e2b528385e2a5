//! Recompiles when a migration is added: the folders lie outside this crate.
fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
