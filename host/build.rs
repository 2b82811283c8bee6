//! Migrations are embedded at compile time; cargo must look at them again when they change.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
