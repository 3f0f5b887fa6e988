//! What `#[service]` and `#[derive(RpcError)]` accept, and what they say of the rest.
//!
//! `TRYBUILD=overwrite cargo test --test ui` writes the messages anew. Those of rustc itself are
//! of the stable release that CI uses; another one may word them differently.

#![cfg(feature = "macros")]

#[test]
fn each_misuse_is_reported_where_it_is() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}

#[test]
fn each_legal_use_compiles_without_a_warning() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
