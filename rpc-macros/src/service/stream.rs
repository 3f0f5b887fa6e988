//! Streams, as they stand in the trait: `Streaming<T>`, which a method takes, and
//! `impl Stream<Item = T>`, which it returns.

use proc_macro2::Span;
use quote::quote_spanned;
use syn::{
    AngleBracketedGenericArguments, GenericArgument, Ident, Path, PathArguments, Token, Type,
    TypeImplTrait, TypeParamBound, parse_quote,
    punctuated::Punctuated,
    visit_mut::{self, VisitMut},
};

use super::{args::peel, travel};
use crate::errors::Errors;

/// An argument `Streaming<T>`.
pub(super) struct StreamArgument {
    pub(super) ident: Ident,
    pub(super) item: Type,
}

/// The type of the items, if this is `Streaming<T>`; `Some(None)` with an error.
pub(super) fn taken(ty: &Type, errors: &mut Errors) -> Option<Option<Type>> {
    let Type::Path(path) = peel(ty) else {
        return None;
    };
    if path.qself.is_some() || !is_streaming(&path.path) {
        return None;
    }
    let mut arguments = generic_arguments(&path.path).into_iter().flatten();
    let (Some(GenericArgument::Type(item)), None) = (arguments.next(), arguments.next()) else {
        errors.at(ty, "the caller has to know the items: write `Streaming<T>`");
        return Some(None);
    };
    travel::check_item(item, errors);
    Some(Some(item.clone()))
}

/// The stream that a method returns, by itself or as the `T` of a `Result<T, E>`.
pub(super) fn returned(ty: &Type) -> Option<&TypeImplTrait> {
    match peel(ty) {
        Type::ImplTrait(ty) => bounds_a_stream(&ty.bounds).then_some(ty),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let GenericArgument::Type(value) = generic_arguments(&path.path)?.first()? else {
                return None;
            };
            match peel(value) {
                Type::ImplTrait(ty) if last.ident == "Result" => {
                    bounds_a_stream(&ty.bounds).then_some(ty)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Makes the stream that a method returns, if it does, one that is `Send`.
pub(super) fn promise_send(ty: &mut Type) {
    if returned(ty).is_none() {
        return;
    }
    match ty {
        Type::Group(group) => promise_send(&mut group.elem),
        Type::Paren(paren) => promise_send(&mut paren.elem),
        Type::ImplTrait(stream) => {
            let is_send = stream.bounds.iter().any(|bound| bounds(bound, "Send"));
            if !is_send {
                // At the stream of the user, where rustc points if one is not `Send`.
                let span = stream.impl_token.span.resolved_at(Span::call_site());
                let send = quote_spanned!(span=> ::core::marker::Send);
                stream.bounds.push(parse_quote!(#send));
            }
        }
        Type::Path(path) => {
            if let Some(last) = path.path.segments.last_mut()
                && let PathArguments::AngleBracketed(arguments) = &mut last.arguments
                && let Some(GenericArgument::Type(value)) = arguments.args.first_mut()
            {
                promise_send(value);
            }
        }
        _ => {}
    }
}

/// The type of the items of an `impl Stream<Item = T>`.
pub(super) fn item<'a>(stream: &'a TypeImplTrait, errors: &mut Errors) -> Option<&'a Type> {
    let item = stream.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) if is_stream(&bound.path) => {
            let mut arguments = generic_arguments(&bound.path)?.iter();
            arguments.find_map(|argument| match argument {
                GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
                _ => None,
            })
        }
        _ => None,
    });
    if item.is_none() {
        errors.at(
            stream,
            "the caller has to know the items: write `impl Stream<Item = T>`",
        );
    }
    item
}

/// Whether there is a stream anywhere in the type, rightly or not.
pub(super) fn is_in(ty: &Type) -> bool {
    let mut finder = Finder { found: false };
    finder.visit_type_mut(&mut ty.clone());
    finder.found
}

struct Finder {
    found: bool,
}

impl VisitMut for Finder {
    fn visit_path_mut(&mut self, path: &mut Path) {
        self.found |= is_streaming(path) || is_stream(path);
        visit_mut::visit_path_mut(self, path);
    }
}

pub(super) fn is_streaming(path: &Path) -> bool {
    last_segment_is(path, "Streaming")
}

pub(super) fn bounds_a_stream(all: &Punctuated<TypeParamBound, Token![+]>) -> bool {
    all.iter().any(|bound| bounds(bound, "Stream"))
}

fn bounds(bound: &TypeParamBound, name: &str) -> bool {
    matches!(bound, TypeParamBound::Trait(bound) if last_segment_is(&bound.path, name))
}

fn is_stream(path: &Path) -> bool {
    last_segment_is(path, "Stream")
}

fn last_segment_is(path: &Path, name: &str) -> bool {
    path.segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}

fn generic_arguments(path: &Path) -> Option<&Punctuated<GenericArgument, Token![,]>> {
    match &path.segments.last()?.arguments {
        PathArguments::AngleBracketed(AngleBracketedGenericArguments { args, .. }) => Some(args),
        _ => None,
    }
}
