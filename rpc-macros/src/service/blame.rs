//! Where rustc points if generated code does not compile.
//!
//! It is to point at the type in the trait that is to blame. rustc underlines an expression from
//! the position of its first token to that of its last one, so the tokens are given the
//! positions of those of the type. How names are resolved is another matter, and stays as it is.

use proc_macro2::{Ident, Span, TokenStream};
use quote::ToTokens;

/// A name of the user's in generated code. rustc and clippy are to find fault with it only once,
/// where the user wrote it.
pub(super) fn generated(mut ident: Ident) -> Ident {
    ident.set_span(ident.span().resolved_at(Span::call_site()));
    ident
}

/// The positions of the first and the last token of the culprit, to be resolved as `site` is.
pub(super) fn ends(culprit: impl ToTokens, site: Span) -> (Span, Span) {
    let mut spans = culprit
        .into_token_stream()
        .into_iter()
        .map(|token| token.span());
    let first = spans.next().unwrap_or(site);
    let last = spans.last().unwrap_or(first);
    (first.resolved_at(site), last.resolved_at(site))
}

/// The tokens, underlined from the first position to the last one. What stands in brackets keeps
/// its own.
pub(super) fn spread(tokens: TokenStream, (first, last): (Span, Span)) -> TokenStream {
    let mut span = first;
    tokens
        .into_iter()
        .map(|mut token| {
            token.set_span(span);
            span = last;
            token
        })
        .collect()
}
