//! Names of the user that could collide with those of generated code, or with keywords.

#![deny(warnings)]

use wirecall::Context;

mod hostile {
    //! What a careless expansion would take for its own.

    #![allow(dead_code, non_camel_case_types, non_upper_case_globals)]

    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct S;
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct A;
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Peer;
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Call;

    pub struct Arc;
    pub struct Box;
    pub struct Vec;
    pub struct Ok;
    pub struct Err;
    pub struct Some;
    pub struct None;
    pub struct Option;
    pub struct Future;
    pub struct Send;
    pub struct Sync;
    pub struct Clone;
    pub struct Status;
    pub struct Service;
    pub struct Debug;
    pub mod std {}
    pub mod core {}

    #[wirecall::service]
    pub trait Hostile {
        async fn types(&self, s: S, a: &A, peers: &[Peer], call: Call) -> S;
        async fn borrowed(&self, text: &str, bytes: &[u8], numbers: &[u64]);
        #[notify]
        async fn told(&self, s: S, text: &str);
    }
}

#[wirecall::service]
trait Arguments {
    #[allow(clippy::too_many_arguments)]
    async fn locals(
        &self,
        call: u8,
        service: &str,
        result: &[u8],
        status: Option<&str>,
        peer: u8,
        methods: u8,
        cx: &Context,
        this: u8,
        wirecall: u8,
    ) -> Result<u8, wirecall::Status>;
    #[notify]
    async fn audience(&self, audience: &str, methods: u8, name: u8);
    async fn keywords(&self, r#type: String, r#fn: u8) -> u8;
    async fn r#move(&self, r#async: &str);
    #[allow(non_snake_case)]
    async fn upperCase(&self, theText: String);
}

// The methods of the traits that the generated types implement.
#[wirecall::service]
trait Methods {
    async fn clone(&self) -> u8;
    async fn fmt(&self) -> u8;
    async fn name(&self) -> u8;
    async fn methods(&self) -> u8;
    async fn dispatcher(&self) -> u8;
    async fn as_ref(&self) -> u8;
    async fn drop(&self) -> u8;
    async fn to(&self) -> u8;
    #[rpc(name = "new")]
    async fn create(&self) -> u8;
    #[notify]
    async fn into_iter(&self);
    #[notify]
    async fn send(&self);
}

#[wirecall::service]
trait r#Raw {
    async fn ping(&self);
}

#[wirecall::service]
trait Empty {}

macro_rules! contract {
    ($name:ident, $error:ident, $type:ty, $lent:ty, $argument:ident) => {
        #[wirecall::service]
        trait $name {
            async fn owned(&self, $argument: $type, call: u8) -> $type;
            async fn lent(&self, $argument: $lent, service: u8) -> Result<$type, $error>;
            async fn default(&self, cx: &Context, $argument: $type) -> $type {
                let _ = cx;
                $argument
            }
            #[notify]
            async fn told(&self, $argument: $lent, methods: u8);
        }

        #[derive(
            Debug, thiserror::Error, serde::Serialize, serde::Deserialize, wirecall::RpcError,
        )]
        enum $error {
            #[error("refused")]
            #[rpc(code = 70)]
            Refused,
            #[error("broken")]
            Broken,
        }
    };
}

contract!(Expanded, ExpandedError, String, &str, result);

fn in_a_function() {
    use wirecall::Status as Failure;

    #[wirecall::service]
    trait Local {
        async fn ping(&self) -> Result<u8, Failure>;
    }

    struct Here;

    impl Local for Here {
        async fn ping(&self) -> Result<u8, Failure> {
            Ok(1)
        }
    }

    assert_eq!(LocalServer::<Here>::NAME, "Local");
    let _ = LocalServer::new(Here);
}

fn main() {
    in_a_function();
    assert_eq!(RawClient::NAME, "Raw");
    let _ = (ExpandedError::Refused, ExpandedError::Broken);
    let _: fn(wirecall::Peer) -> hostile::HostileClient = hostile::HostileClient::new;
}
