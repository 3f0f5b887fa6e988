//! Writes the client and the server of the tonic peer. From a description in Rust, so that no
//! `protoc` is needed; the messages are in `src/peers/tonic.rs`.

use tonic_build::manual::{Builder, Method, MethodBuilder, Service};

fn main() {
    let service = Service::builder()
        .name("Bench")
        .package("bench")
        .method(call("add", "Add", "Numbers", "Number"))
        .method(call("echo", "Echo", "Body", "Body"))
        .method(call(
            "echo_after_waiting",
            "EchoAfterWaiting",
            "Body",
            "Body",
        ))
        .method(call("download", "Download", "Nothing", "Body"))
        .method(call("upload", "Upload", "Body", "Size"))
        .method(stream("numbers", "Numbers", "Nothing", "Size"))
        .method(stream("subscribe", "Subscribe", "Nothing", "Body"))
        .build();
    Builder::new().compile(&[service]);
    println!("cargo::rerun-if-changed=build.rs");
}

fn call(name: &str, route: &str, request: &str, response: &str) -> Method {
    method(name, route, request, response).build()
}

fn stream(name: &str, route: &str, request: &str, response: &str) -> Method {
    method(name, route, request, response)
        .server_streaming()
        .build()
}

fn method(name: &str, route: &str, request: &str, response: &str) -> MethodBuilder {
    let message = |name: &str| format!("crate::peers::tonic::{name}");
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(message(request))
        .output_type(message(response))
        .codec_path("tonic_prost::ProstCodec")
}
