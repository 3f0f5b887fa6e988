//! `#[service]`: from a trait to the trait, its server, its client and its notifier.

mod args;
mod blame;
mod client;
mod contract;
mod definition;
mod generics;
mod method;
mod names;
mod notifier;
mod options;
mod reply;
mod server;
mod stream;
mod topic;
mod trait_item;
mod travel;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Item, ItemTrait};

use self::contract::Contract;
use crate::errors::Errors;

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let parsed = match parse_trait(item.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            errors.push(error);
            let errors = errors.into_tokens();
            return quote!(#item #errors);
        }
    };

    let generated = Contract::parse(options, &parsed, &mut errors).map(|contract| {
        let server = server::expand(&contract);
        let client = client::expand(&contract);
        let notifier = notifier::expand(&contract);
        quote!(#server #client #notifier)
    });
    // The trait is there in any case: otherwise each of its implementations would be an error too.
    let item = trait_item::expand(parsed);
    let errors = errors.into_tokens();
    quote!(#item #generated #errors)
}

fn parse_trait(item: TokenStream) -> syn::Result<ItemTrait> {
    match syn::parse2(item)? {
        Item::Trait(item) => Ok(item),
        _ => Err(syn::Error::new(
            Span::call_site(),
            "a service is a trait: `#[service]` can stand on nothing else",
        )),
    }
}
