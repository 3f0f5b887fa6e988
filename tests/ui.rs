//! What `#[service]` and `#[derive(RpcError)]` accept, and what they say of the rest.
//!
//! `TRYBUILD=overwrite cargo test --test ui` writes the messages anew.

#![cfg(feature = "macros")]

/// Half of each message is rustc's own wording, which other releases change.
const WORDED_BY: &str = "rustc 1.95.";

#[test]
fn each_misuse_is_reported_where_it_is() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(WORDED_BY) {
        eprintln!(
            "not compared: the expected messages are worded by {WORDED_BY}, this is {version}"
        );
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}

#[test]
fn each_legal_use_compiles_without_a_warning() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
