//! What a method returns.

use syn::{GenericArgument, PathArguments, ReturnType, Type, parse_quote};

use super::{args::peel, travel};
use crate::errors::Errors;

pub(super) struct Reply {
    /// What stands in the trait.
    pub(super) written: Option<Type>,
    pub(super) value: Type,
    /// The `E` of a `Result<T, E>`. A method without can fail only on its way.
    pub(super) error: Option<Type>,
}

impl Reply {
    pub(super) fn parse(output: &ReturnType, errors: &mut Errors) -> Self {
        let ReturnType::Type(_, ty) = output else {
            return Reply {
                written: None,
                value: parse_quote!(()),
                error: None,
            };
        };
        let written = Some((**ty).clone());
        let ty = peel(ty);
        match result_types(ty) {
            Some(Ok((value, error))) => {
                travel::check_reply(value, errors);
                travel::check_reply(error, errors);
                Reply {
                    written,
                    value: value.clone(),
                    error: Some(error.clone()),
                }
            }
            Some(Err(())) => {
                errors.at(
                    ty,
                    "the caller has to know both types: write `Result<T, E>`",
                );
                Reply {
                    written,
                    value: ty.clone(),
                    error: None,
                }
            }
            None => {
                travel::check_reply(ty, errors);
                Reply {
                    written,
                    value: ty.clone(),
                    error: None,
                }
            }
        }
    }
}

/// The types in a `Result<T, E>`; `Err` for a `Result` with any other number of them, which is
/// an alias.
fn result_types(ty: &Type) -> Option<Result<(&Type, &Type), ()>> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if path.qself.is_some() || last.ident != "Result" {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return Some(Err(()));
    };
    let mut types = arguments.args.iter();
    match (types.next(), types.next(), types.next()) {
        (Some(GenericArgument::Type(value)), Some(GenericArgument::Type(error)), None) => {
            Some(Ok((value, error)))
        }
        _ => Some(Err(())),
    }
}
