//! What a method returns.

use quote::ToTokens as _;
use syn::{GenericArgument, PathArguments, ReturnType, Type, TypeImplTrait, parse_quote};

use super::{args::peel, stream, topic, travel};
use crate::errors::Errors;

const NO_ALIAS: &str = "the caller has to know both types: write `Result<T, E>`";

pub(super) struct Reply {
    /// What stands in the trait, the items of a stream: where rustc is to point.
    pub(super) written: Option<Type>,
    /// What the caller gets, once or as items.
    pub(super) value: Type,
    /// The `E` of a `Result<T, E>`. A method without can fail only on its way.
    pub(super) error: Option<Type>,
    pub(super) stream: Option<ReturnedStream>,
    /// A `Topic<T>` comes back, by itself or in a `Result`: a stream on the wire.
    pub(super) is_topic: bool,
}

/// An `impl Stream<Item = T>`.
#[derive(Clone, Copy)]
pub(super) struct ReturnedStream {
    /// It is in a `Result`.
    pub(super) may_be_refused: bool,
    /// Its items are `Result`s.
    pub(super) may_fail: bool,
}

impl Reply {
    pub(super) fn parse(output: &ReturnType, errors: &mut Errors) -> Self {
        let ReturnType::Type(_, ty) = output else {
            return Reply {
                written: None,
                value: parse_quote!(()),
                error: None,
                stream: None,
                is_topic: false,
            };
        };
        if let Some(topic) = topic::returned(ty) {
            return Self::parse_topic(ty, topic, errors);
        }
        match stream::returned(ty) {
            Some(stream) => Self::parse_stream(ty, stream, errors),
            None => {
                let (value, error) = value_and_error(ty, errors);
                Reply {
                    written: Some((**ty).clone()),
                    value: value.clone(),
                    error: error.cloned(),
                    stream: None,
                    is_topic: false,
                }
            }
        }
    }

    fn parse_topic(ty: &Type, topic: &Type, errors: &mut Errors) -> Self {
        let error = match result_types(peel(ty)) {
            Some(Ok((_, error))) => {
                travel::check_reply(error, errors);
                Some(error)
            }
            Some(Err(())) => {
                errors.at(ty, NO_ALIAS);
                None
            }
            None => None,
        };
        let item = topic::item(topic, errors);
        Reply {
            written: Some(item.unwrap_or(ty).clone()),
            value: item.unwrap_or(ty).clone(),
            error: error.cloned(),
            stream: None,
            is_topic: true,
        }
    }

    fn parse_stream(ty: &Type, stream: &TypeImplTrait, errors: &mut Errors) -> Self {
        let refusal = match result_types(peel(ty)) {
            Some(Ok((_, error))) => {
                travel::check_reply(error, errors);
                Some(error)
            }
            Some(Err(())) => {
                errors.at(ty, NO_ALIAS);
                None
            }
            None => None,
        };
        let item = stream::item(stream, errors);
        let (value, failure) = item.map_or((ty, None), |item| value_and_error(item, errors));
        if let (Some(refusal), Some(failure)) = (refusal, failure) {
            let expected = refusal.to_token_stream().to_string();
            if failure.to_token_stream().to_string() != expected {
                errors.at(
                    failure,
                    format!(
                        "a method has one type of error: it is `{expected}` before the stream, \
                         and has to be for the items"
                    ),
                );
            }
        }
        Reply {
            written: Some(item.unwrap_or(ty).clone()),
            value: value.clone(),
            error: refusal.or(failure).cloned(),
            stream: Some(ReturnedStream {
                may_be_refused: refusal.is_some(),
                may_fail: failure.is_some(),
            }),
            is_topic: false,
        }
    }
}

/// The `T` and `E` of a `Result<T, E>`, or the type and nothing; checked.
fn value_and_error<'a>(ty: &'a Type, errors: &mut Errors) -> (&'a Type, Option<&'a Type>) {
    let ty = peel(ty);
    match result_types(ty) {
        Some(Ok((value, error))) => {
            travel::check_reply(value, errors);
            travel::check_reply(error, errors);
            (value, Some(error))
        }
        Some(Err(())) => {
            errors.at(ty, NO_ALIAS);
            (ty, None)
        }
        None => {
            travel::check_reply(ty, errors);
            (ty, None)
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
