//! Which types can travel between peers, as far as their tokens tell.

use quote::ToTokens;
use syn::{
    Lifetime, Path, Type, TypeFnPtr, TypeImplTrait, TypeReference, TypeTraitObject,
    visit_mut::{self, VisitMut},
};

use super::{stream, topic};
use crate::errors::Errors;

/// What the elided lifetimes of an argument are called in the client.
pub(super) const ARGUMENT_LIFETIME: &str = "'a";

/// Checks the type of an argument, or the part of it behind the `&`. Gives its elided lifetimes
/// the name that they have in the client, and returns whether there were any.
pub(super) fn check_argument(ty: &mut Type, errors: &mut Errors) -> bool {
    let mut traveller = Traveller::new(Place::Argument, errors);
    traveller.visit_type_mut(ty);
    traveller.elided
}

/// Checks the type of the items that a method takes.
pub(super) fn check_item(ty: &Type, errors: &mut Errors) {
    Traveller::new(Place::Item, errors).visit_type_mut(&mut ty.clone());
}

/// Checks the type of a result, of an item that a method returns, or of an error.
pub(super) fn check_reply(ty: &Type, errors: &mut Errors) {
    Traveller::new(Place::Reply, errors).visit_type_mut(&mut ty.clone());
}

/// Checks the type of the items of a topic.
pub(super) fn check_item_of_topic(ty: &Type, errors: &mut Errors) {
    Traveller::new(Place::Reply, errors).visit_type_mut(&mut ty.clone());
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Argument,
    /// In a `Streaming<T>`.
    Item,
    Reply,
}

struct Traveller<'e> {
    errors: &'e mut Errors,
    place: Place,
    elided: bool,
}

impl<'e> Traveller<'e> {
    fn new(place: Place, errors: &'e mut Errors) -> Self {
        Traveller {
            errors,
            place,
            elided: false,
        }
    }

    /// Reports what borrows from the handler, or from what an item was decoded from.
    fn must_own(&mut self, culprit: impl ToTokens) {
        let message = match self.place {
            Place::Item => "an item cannot borrow: take an owned type",
            _ => "a reply cannot borrow: return an owned type",
        };
        self.errors.at(culprit, message);
    }

    /// Reports a type that implements `Stream`.
    fn misplaced_stream(&mut self, culprit: impl ToTokens) {
        let message = match self.place {
            Place::Reply => {
                "a stream stands alone: \
                 return `impl Stream<Item = T>` or `Result<impl Stream<Item = T>, E>`"
            }
            _ => "a method returns `impl Stream`: take a `Streaming<T>`",
        };
        self.errors.at(culprit, message);
    }
}

impl VisitMut for Traveller<'_> {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        if self.place == Place::Argument {
            self.errors.at(
                reference,
                "only a whole argument can be borrowed, as `&T`, `&[T]`, `&str`, `&[u8]`, \
                 `Option<&str>` or `Option<&[u8]>`: take this one by value",
            );
        } else {
            self.must_own(reference);
        }
    }

    fn visit_type_impl_trait_mut(&mut self, ty: &mut TypeImplTrait) {
        if stream::bounds_a_stream(&ty.bounds) {
            self.misplaced_stream(ty);
        } else {
            self.errors.at(
                ty,
                "`impl Trait` cannot be decoded: the other side has to know the type",
            );
        }
    }

    fn visit_type_trait_object_mut(&mut self, ty: &mut TypeTraitObject) {
        if stream::bounds_a_stream(&ty.bounds) {
            self.misplaced_stream(ty);
        } else {
            self.errors.at(
                ty,
                "a trait object cannot be decoded: the other side has to know the type",
            );
        }
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
        } else if topic::is_topic(path) {
            let message = match self.place {
                Place::Reply => "a topic stands alone: return `Topic<T>` or `Result<Topic<T>, E>`",
                _ => "a method returns a `Topic<T>`, and takes none: take its name",
            };
            self.errors.at(&*path, message);
        } else if stream::is_streaming(path) {
            let message = match self.place {
                Place::Reply => "a method takes a `Streaming<T>`: return `impl Stream<Item = T>`",
                _ => "a stream is an argument of its own: take a `Streaming<T>`, in nothing else",
            };
            self.errors.at(&*path, message);
        } else {
            visit_mut::visit_path_mut(self, path);
        }
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "static" {
            return;
        }
        if self.place != Place::Argument {
            self.must_own(lifetime);
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
