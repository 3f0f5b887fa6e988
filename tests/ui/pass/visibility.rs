//! Generated types are as visible as their trait, and nobody has to use them.

#![deny(warnings, missing_docs, unreachable_pub)]

mod private {
    #[wirecall::service]
    trait Unused {
        async fn ping(&self);
        #[notify]
        async fn told(&self);
    }

    #[wirecall::service]
    pub(super) trait Outer {
        async fn ping(&self);
    }

    pub(crate) mod inner {
        #[wirecall::service]
        pub(in crate::private) trait Within {
            async fn ping(&self);
        }

        #[wirecall::service]
        pub(crate) trait Everywhere {
            async fn ping(&self);
            #[notify]
            async fn told(&self);
        }
    }

    pub(super) fn sees() {
        let _: fn(wirecall::Peer) -> inner::WithinClient = inner::WithinClient::new;
        let _ = inner::WithinClient::ping;
    }
}

// The crate's own type is in a public signature, of a trait that is not.
struct Own;

impl private::Outer for Own {
    async fn ping(&self) {}
}

fn main() {
    private::sees();
    let _ = private::OuterServer::new(Own);
    let _ = private::inner::EverywhereClient::ping;
    let _ = private::inner::EverywhereNotifier::named;
}
