//! Snapshots of the expansions, in `snapshots/`. `INSTA_UPDATE=always` writes them anew.

use proc_macro2::TokenStream;
use quote::quote;

use crate::{rpc_error, service};

/// The tokens as rustfmt would have them, more or less.
fn pretty(tokens: TokenStream) -> String {
    let file = syn::parse2(tokens).expect("an expansion consists of items");
    prettyplease::unparse(&file)
}

#[test]
fn a_service_becomes_a_server_a_client_and_a_notifier() {
    let expansion = service::expand(
        quote!(),
        quote! {
            /// A chat.
            pub trait Chat {
                /// Posts a line and returns its number.
                async fn post(&self, cx: &Context, room: &str, text: &str) -> Result<u64, ChatError>;
                #[rpc(idempotent)]
                async fn ping(&self) -> u64;
                #[rpc(name = "search.v2", spawn, scope = "chat.search")]
                #[deprecated]
                async fn search(&self, words: &[String], limit: Option<u32>) -> Vec<String> {
                    Vec::new()
                }
                /// Somebody was kicked.
                #[notify]
                async fn kicked(&self, room: &str, why: &str);
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn each_form_of_argument_is_sent_decoded_and_passed_in_its_own_way() {
    let expansion = service::expand(
        quote!(),
        quote! {
            trait Forms {
                async fn borrowed(&self, text: &str, bytes: &[u8], slice: &[u64], target: &Point);
                async fn optional(&self, text: Option<&str>, bytes: Option<&[u8]>, owned: Option<u8>);
                async fn owned(&self, r#type: String, tuple: (u8, [u8; 4]), fixed: Cow<'static, str>);
                async fn elided(&self, cow: Cow<'_, str>, cows: &[Cow<'_, str>], cx: &Context);
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn a_topic_is_served_and_subscribed_to() {
    let expansion = service::expand(
        quote!(),
        quote! {
            trait Prices {
                async fn follow(&self, currency: &str) -> Topic<Price>;
                #[rpc(credit(items = 4))]
                async fn known(&self) -> Result<Topic<Price>, PriceError>;
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn streams_are_returned_and_taken() {
    let expansion = service::expand(
        quote!(),
        quote! {
            trait Streams {
                fn primes(&self, limit: u64) -> impl Stream<Item = u64>;
                #[rpc(credit(items = 64))]
                async fn follow(
                    &self,
                    cx: &Context,
                    room: &str,
                ) -> Result<impl futures::Stream<Item = Result<Line, ChatError>> + Send, ChatError>;
                /// Counts the words.
                async fn count(&self, cx: &Context, lines: Streaming<String>, room: &str) -> u64;
                #[rpc(credit(items = 1, bytes = 2))]
                fn echo(&self, lines: wirecall::Streaming<String>) -> impl Stream<Item = String> {
                    lines.map(Result::unwrap)
                }
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn a_source_has_a_name_that_the_trait_does_not_use() {
    let expansion = service::expand(
        quote!(),
        quote! {
            trait Streams<S> {
                async fn all(&self, values: Streaming<S>);
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn the_parameters_of_a_trait_are_those_of_its_types() {
    let expansion = service::expand(
        quote!(name = "kv", crate = my::rpc),
        quote! {
            pub(crate) trait Store<T: Hash, const N: usize = 3>: Debug
            where
                Vec<T>: Clone,
                Self: Sized,
            {
                async fn get(&self, key: &str) -> Option<T>;
                #[notify]
                async fn changed(&self, value: &T);
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn methods_that_cfgs_keep_apart_share_a_place_in_the_table() {
    let expansion = service::expand(
        quote!(),
        quote! {
            trait System<S> {
                #[cfg(unix)]
                #[rpc(idempotent)]
                async fn owner(&self) -> u32;
                #[cfg(not(unix))]
                async fn owner(&self) -> String;
                async fn name(&self) -> S;
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn a_method_with_an_error_stays_in_the_trait_and_is_left_out_elsewhere() {
    let expansion = service::expand(
        quote!(),
        quote! {
            trait Chat {
                async fn post<T>(&mut self, text: T);
                async fn ping(&self);
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn a_trait_with_an_error_stays_alone() {
    let expansion = service::expand(
        quote!(),
        quote! {
            unsafe trait Chat<'a> {
                type Line;
                async fn post(&self, text: &str);
            }
        },
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn what_is_no_trait_stays_as_it_is() {
    let expansion = service::expand(
        quote!(),
        quote!(
            struct Chat;
        ),
    );
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn an_enum_has_a_code_for_each_variant() {
    let expansion = rpc_error::expand(quote! {
        #[rpc(code = INTERNAL)]
        pub enum ChatError {
            #[rpc(code = NOT_FOUND)]
            NoRoom(String),
            #[rpc(code = 64)]
            Muted { who: String },
            Other,
        }
    });
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn an_enum_whose_variants_all_have_a_code_has_no_other() {
    let expansion = rpc_error::expand(quote! {
        enum ChatError {
            #[rpc(code = 64)]
            NoRoom,
            #[rpc(code = 65)]
            Muted,
        }
    });
    insta::assert_snapshot!(pretty(expansion));
}

#[test]
fn a_generic_error_asks_for_what_travels() {
    let expansion = rpc_error::expand(quote! {
        #[rpc(crate = "my::rpc")]
        struct Refused<T>(T) where T: Clone;
    });
    insta::assert_snapshot!(pretty(expansion));
}
