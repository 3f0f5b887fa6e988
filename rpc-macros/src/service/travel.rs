//! Which types can travel between peers, as far as their tokens tell.

use syn::{
    Lifetime, Path, Type, TypeFnPtr, TypeImplTrait, TypeParamBound, TypeReference, TypeTraitObject,
    visit_mut::{self, VisitMut},
};

use super::args::peel;
use crate::errors::Errors;

/// What the elided lifetimes of an argument are called in the client.
pub(super) const ARGUMENT_LIFETIME: &str = "'a";

/// Checks the type of an argument, or the part of it behind the `&`. Gives its elided lifetimes
/// the name that they have in the client, and returns whether there were any.
pub(super) fn check_argument(ty: &mut Type, errors: &mut Errors) -> bool {
    let mut traveller = Traveller {
        errors,
        is_reply: false,
        elided: false,
    };
    traveller.visit_type_mut(ty);
    traveller.elided
}

/// Checks the type of a result or of an error.
pub(super) fn check_reply(ty: &Type, errors: &mut Errors) {
    Traveller {
        errors,
        is_reply: true,
        elided: false,
    }
    .visit_type_mut(&mut ty.clone());
}

/// Whether the type is `impl Stream<Item = T>` or `Streaming<T>`.
pub(super) fn is_stream(ty: &Type) -> bool {
    match peel(ty) {
        Type::ImplTrait(ty) => bounds_a_stream(ty),
        Type::Path(ty) => last_segment_is(&ty.path, "Streaming"),
        _ => false,
    }
}

struct Traveller<'e> {
    errors: &'e mut Errors,
    is_reply: bool,
    elided: bool,
}

impl VisitMut for Traveller<'_> {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        if self.is_reply {
            self.errors
                .at(reference, "a reply cannot borrow: return an owned type");
        } else {
            self.errors.at(
                reference,
                "only a whole argument can be borrowed, as `&T`, `&[T]`, `&str`, `&[u8]`, \
                 `Option<&str>` or `Option<&[u8]>`: take this one by value",
            );
        }
    }

    fn visit_type_impl_trait_mut(&mut self, ty: &mut TypeImplTrait) {
        if bounds_a_stream(ty) {
            self.errors.at(ty, "streams are not supported yet");
        } else {
            self.errors.at(
                ty,
                "`impl Trait` cannot be decoded: the other side has to know the type",
            );
        }
    }

    fn visit_type_trait_object_mut(&mut self, ty: &mut TypeTraitObject) {
        self.errors.at(
            ty,
            "a trait object cannot be decoded: the other side has to know the type",
        );
    }

    fn visit_type_fn_ptr_mut(&mut self, ty: &mut TypeFnPtr) {
        self.errors
            .at(ty, "a function cannot be sent to another process");
    }

    fn visit_path_mut(&mut self, path: &mut Path) {
        if path
            .segments
            .first()
            .is_some_and(|first| first.ident == "Self")
        {
            self.errors.at(
                &*path,
                "`Self` is another type on the calling side: name the type",
            );
        } else if last_segment_is(path, "Streaming") {
            self.errors.at(&*path, "streams are not supported yet");
        } else {
            visit_mut::visit_path_mut(self, path);
        }
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "static" {
            return;
        }
        if self.is_reply {
            self.errors
                .at(lifetime, "a reply cannot borrow: return an owned type");
        } else if lifetime.ident == "_" {
            *lifetime = Lifetime::new(ARGUMENT_LIFETIME, lifetime.span());
            self.elided = true;
        } else {
            self.errors.at(
                lifetime,
                "a method has no named lifetimes: leave it out, or write `'_`",
            );
        }
    }
}

fn bounds_a_stream(ty: &TypeImplTrait) -> bool {
    ty.bounds.iter().any(|bound| match bound {
        TypeParamBound::Trait(bound) => last_segment_is(&bound.path, "Stream"),
        _ => false,
    })
}

fn last_segment_is(path: &Path, name: &str) -> bool {
    path.segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}
