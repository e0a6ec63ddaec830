//! The link of the program, without what only a debugger reads: tests copy, digest and sync it some
//! thousand times, and three quarters of a dev build are that.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let environment = std::env::var("CARGO_CFG_TARGET_ENV");
    if environment.is_ok_and(|environment| environment == "gnu") {
        println!("cargo::rustc-link-arg-bins=-s");
    }
}
