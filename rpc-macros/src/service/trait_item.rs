//! The trait as it is compiled: each `async fn` promises a future that is `Send`, and each stream
//! that is returned is `Send`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::{ItemTrait, ReturnType, Token, TraitItem, TraitItemFn, parse_quote};

use super::{options::is_method_option, stream};

pub(super) fn expand(mut item: ItemTrait) -> TokenStream {
    // The dispatch shares the service among all calls of all connections.
    if item.colon_token.is_none() {
        item.colon_token = Some(<Token![:]>::default());
    }
    item.supertraits.push(parse_quote!(::core::marker::Send));
    item.supertraits.push(parse_quote!(::core::marker::Sync));
    item.supertraits.push(parse_quote!('static));

    item.attrs.retain(|attribute| !is_method_option(attribute));
    for item in &mut item.items {
        if let TraitItem::Fn(method) = item {
            method
                .attrs
                .retain(|attribute| !is_method_option(attribute));
            promise_send(method);
        }
    }
    item.into_token_stream()
}

/// Writes `impl Stream<Item = T>` as `impl Stream<Item = T> + Send`, and `async fn f() -> T` as the `fn f() -> impl Future<Output = T> + Send` that it stands
/// for, so that an implementation may still write `async fn f() -> T`.
fn promise_send(method: &mut TraitItemFn) {
    if let ReturnType::Type(_, ty) = &mut method.sig.output {
        stream::promise_send(ty);
    }
    let Some(asyncness) = method.sig.asyncness.take() else {
        return;
    };
    // At the `async` of the user, where rustc points if a future is not `Send`.
    let span = asyncness.span.resolved_at(Span::call_site());
    let output = match &method.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => quote!(#ty),
    };
    let future = quote_spanned! {span=>
        -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
    method.sig.output = parse_quote!(#future);
    if let Some(body) = &method.default {
        method.default = Some(parse_quote!({ async move #body }));
    }
}
