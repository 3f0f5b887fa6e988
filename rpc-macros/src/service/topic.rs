//! `Topic<T>`, as it stands in the trait: what a method returns to subscribe its caller.

use syn::{GenericArgument, Path, PathArguments, Type};

use super::{args::peel, travel};
use crate::errors::Errors;

/// The topic that a method returns, by itself or as the `T` of a `Result<T, E>`.
pub(super) fn returned(ty: &Type) -> Option<&Type> {
    let ty = peel(ty);
    let Type::Path(path) = ty else { return None };
    if path.qself.is_some() {
        return None;
    }
    if is_topic(&path.path) {
        return Some(ty);
    }
    let last = path.path.segments.last()?;
    if last.ident != "Result" {
        return None;
    }
    match peel(arguments(&path.path)?.next()?) {
        value @ Type::Path(path) if path.qself.is_none() && is_topic(&path.path) => Some(value),
        _ => None,
    }
}

/// The type of its items.
pub(super) fn item<'a>(topic: &'a Type, errors: &mut Errors) -> Option<&'a Type> {
    let Type::Path(path) = topic else { return None };
    let mut arguments = arguments(&path.path).into_iter().flatten();
    let (Some(item), None) = (arguments.next(), arguments.next()) else {
        errors.at(
            topic,
            "the subscriber has to know the items: write `Topic<T>`",
        );
        return None;
    };
    travel::check_item_of_topic(item, errors);
    Some(item)
}

/// Whether this is `Topic<…>`. A `Topic` without anything is a type of the user's own.
pub(super) fn is_topic(path: &Path) -> bool {
    path.segments.last().is_some_and(|last| {
        last.ident == "Topic" && matches!(last.arguments, PathArguments::AngleBracketed(_))
    })
}

fn arguments(path: &Path) -> Option<impl Iterator<Item = &Type>> {
    let PathArguments::AngleBracketed(arguments) = &path.segments.last()?.arguments else {
        return None;
    };
    Some(arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }))
}
