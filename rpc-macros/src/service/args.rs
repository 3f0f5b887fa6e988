//! The arguments of a method: what they are in the trait, in the client, on the wire and in the
//! server.
//!
//! | in the trait | in the client | decoded as |
//! | --- | --- | --- |
//! | `&str` | `&'a str` | `BorrowedStr<'_>` |
//! | `&[u8]` | `&'a [u8]`, sent as `ByteSlice<'a>` | `BorrowedBytes<'_>` |
//! | `&[T]` | `&'a [T]` | `Vec<T>` |
//! | `&T` | `&'a T` | `T` |
//! | `Option<&str>` | `Option<&'a str>` | `Option<BorrowedStr<'_>>` |
//! | `Option<&[u8]>` | `Option<&'a [u8]>`, sent as `Option<ByteSlice<'a>>` | `Option<BorrowedBytes<'_>>` |
//! | `T` | `T` | `T` |
//!
//! `Streaming<T>` is not among the arguments on the wire; in the client it is the stream that is
//! sent.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    FnArg, GenericArgument, Ident, Lifetime, Pat, PatType, PathArguments, PathSegment, Type,
    TypeReference, spanned::Spanned as _,
};

use super::{
    blame,
    stream::{self, StreamArgument},
    travel::{self, ARGUMENT_LIFETIME},
};
use crate::errors::Errors;

/// How many arguments can be encoded and decoded as a tuple.
const MAX_ON_THE_WIRE: usize = 12;

pub(super) enum Argument {
    /// `cx: &Context`, which the server fills in.
    Context(Span),
    Wire(Box<WireArgument>),
    /// `Streaming<T>`, at most one.
    Stream(Box<StreamArgument>),
}

/// An argument that the caller gives.
pub(super) struct WireArgument {
    pub(super) ident: Ident,
    /// The type as it stands in the trait.
    pub(super) written: Type,
    /// The type in the client, where a call that borrows has to say for how long.
    pub(super) lent: Type,
    /// Whether there is [`ARGUMENT_LIFETIME`] in `lent`.
    pub(super) borrows: bool,
    form: Form,
}

/// A row of the table above.
enum Form {
    Str,
    Bytes,
    Slice(Type),
    Ref(Type),
    OptionStr,
    OptionBytes,
    Owned,
}

/// Reads the arguments behind `&self`.
pub(super) fn parse<'a>(
    inputs: impl Iterator<Item = &'a FnArg>,
    errors: &mut Errors,
) -> Vec<Argument> {
    let mut arguments = Vec::new();
    let mut has_context = false;
    let mut has_stream = false;
    let mut on_the_wire = 0;
    for input in inputs {
        let FnArg::Typed(input) = input else { continue };
        if let Some(span) = context(&input.ty, errors) {
            if has_context {
                errors.at(&input.ty, "the context is given twice");
            }
            has_context = true;
            arguments.push(Argument::Context(span));
        } else if let Some(item) = stream::taken(&input.ty, errors) {
            if has_stream {
                errors.at(
                    &input.ty,
                    "a call has one stream each way: put what belongs to both into its items",
                );
            }
            has_stream = true;
            if let (Some(ident), Some(item)) = (name(input, errors), item) {
                arguments.push(Argument::Stream(Box::new(StreamArgument { ident, item })));
            }
        } else {
            on_the_wire += 1;
            if on_the_wire > MAX_ON_THE_WIRE {
                errors.at(
                    input,
                    format!(
                        "a method has at most {MAX_ON_THE_WIRE} arguments: \
                         put some of them into a struct"
                    ),
                );
            }
            if let Some(argument) = WireArgument::parse(input, errors) {
                arguments.push(Argument::Wire(Box::new(argument)));
            }
        }
    }
    arguments
}

/// Where the type is, if it is that of `cx: &Context`.
fn context(ty: &Type, errors: &mut Errors) -> Option<Span> {
    match peel(ty) {
        Type::Reference(reference) if is_context(&reference.elem) => {
            if reference.mutability.is_some() || reference.lifetime.is_some() {
                errors.at(ty, "the context is passed as `&Context`");
            }
        }
        ty if is_context(ty) => errors.at(ty, "the context is passed as `&Context`"),
        _ => return None,
    }
    Some(ty.span())
}

fn is_context(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|last| last.ident == "Context" && last.arguments.is_none())
}

/// The name of an argument that the caller gives.
fn name(input: &PatType, errors: &mut Errors) -> Option<Ident> {
    for attribute in &input.attrs {
        if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
            errors.at(
                attribute,
                "an argument cannot be conditional: put the `cfg` on the whole method",
            );
        }
    }
    match &*input.pat {
        Pat::Ident(pat)
            if pat.by_ref.is_none() && pat.mutability.is_none() && pat.subpat.is_none() =>
        {
            Some(blame::generated(pat.ident.clone()))
        }
        pat => {
            errors.at(pat, "an argument is a plain name here, without a pattern");
            None
        }
    }
}

impl WireArgument {
    fn parse(input: &PatType, errors: &mut Errors) -> Option<Self> {
        let ident = name(input, errors);
        let written = peel(&input.ty).clone();
        let form = Form::of(&written);
        let mut lent = written.clone();
        let borrows = lend(&mut lent, &form, errors);
        Some(WireArgument {
            ident: ident?,
            written,
            lent,
            borrows,
            form,
        })
    }

    /// The type in the tuple that is encoded.
    pub(super) fn sent_type(&self, private: &TokenStream) -> TokenStream {
        let lent = &self.lent;
        let lifetime = lifetime(lent.span());
        match self.form {
            Form::Bytes => quote!(#private::ByteSlice<#lifetime>),
            Form::OptionBytes => {
                quote!(::core::option::Option<#private::ByteSlice<#lifetime>>)
            }
            _ => quote!(#lent),
        }
    }

    /// The element of the tuple that is encoded.
    pub(super) fn sent_value(&self, private: &TokenStream) -> TokenStream {
        // With the position of its type, which is to blame if it cannot be encoded.
        let mut ident = self.ident.clone();
        ident.set_span(blame::ends(&self.written, Span::call_site()).0);
        match self.form {
            Form::Bytes => quote!(#private::ByteSlice(#ident)),
            Form::OptionBytes => quote!(#ident.map(#private::ByteSlice)),
            _ => quote!(#ident),
        }
    }

    /// The type in the tuple that is decoded.
    pub(super) fn decoded_type(&self, private: &TokenStream) -> TokenStream {
        let written = &self.written;
        match &self.form {
            Form::Str => quote!(#private::BorrowedStr<'_>),
            Form::Bytes => quote!(#private::BorrowedBytes<'_>),
            Form::Slice(element) => quote!(::std::vec::Vec<#element>),
            Form::Ref(target) => quote!(#target),
            Form::OptionStr => quote!(::core::option::Option<#private::BorrowedStr<'_>>),
            Form::OptionBytes => quote!(::core::option::Option<#private::BorrowedBytes<'_>>),
            Form::Owned => quote!(#written),
        }
    }

    /// What the handler gets of the decoded element.
    pub(super) fn passed_value(&self) -> TokenStream {
        let ident = &self.ident;
        match self.form {
            Form::Str | Form::Bytes | Form::Slice(_) | Form::Ref(_) => quote!(&#ident),
            Form::OptionStr | Form::OptionBytes => {
                quote_spanned!(Span::mixed_site()=> #ident.as_deref())
            }
            Form::Owned => quote!(#ident),
        }
    }
}

impl Form {
    fn of(ty: &Type) -> Self {
        match ty {
            Type::Reference(reference) => match peel(&reference.elem) {
                ty if is_str(ty) => Form::Str,
                ty if is_byte_slice(ty) => Form::Bytes,
                Type::Slice(slice) => Form::Slice((*slice.elem).clone()),
                ty => Form::Ref(ty.clone()),
            },
            _ => match optional(ty).map(|reference| peel(&reference.elem)) {
                Some(ty) if is_str(ty) => Form::OptionStr,
                Some(ty) if is_byte_slice(ty) => Form::OptionBytes,
                _ => Form::Owned,
            },
        }
    }
}

/// Names the lifetimes in the type, and reports what cannot travel. Returns whether there are
/// any lifetimes to name.
fn lend(ty: &mut Type, form: &Form, errors: &mut Errors) -> bool {
    match (form, ty) {
        (Form::OptionStr | Form::OptionBytes, ty) => {
            if let Some(reference) = optional_mut(ty) {
                lend_reference(reference, errors);
            }
            true
        }
        (_, Type::Reference(reference)) => {
            lend_reference(reference, errors);
            travel::check_argument(&mut reference.elem, errors);
            true
        }
        (_, ty) => travel::check_argument(ty, errors),
    }
}

fn lend_reference(reference: &mut TypeReference, errors: &mut Errors) {
    if reference.mutability.is_some() {
        errors.at(
            &*reference,
            "what is written through `&mut` does not get back to the caller: return it",
        );
    }
    if let Some(named) = &reference.lifetime
        && named.ident != "_"
    {
        errors.at(
            named,
            "an argument is borrowed for the time of the call: leave the lifetime out",
        );
    }
    reference.lifetime = Some(lifetime(reference.and_token.span));
}

fn lifetime(span: Span) -> Lifetime {
    Lifetime::new(ARGUMENT_LIFETIME, span)
}

/// The type without the invisible group that a `macro_rules!` wraps around it.
pub(super) fn peel(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        };
    }
}

fn is_str(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("str"))
}

fn is_byte_slice(ty: &Type) -> bool {
    matches!(ty, Type::Slice(slice)
        if matches!(peel(&slice.elem), Type::Path(path) if path.path.is_ident("u8")))
}

/// The reference in an `Option<&T>`.
fn optional(ty: &Type) -> Option<&TypeReference> {
    let last = last_segment(ty).filter(|last| last.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(Type::Reference(reference)) => Some(reference),
        _ => None,
    }
}

fn optional_mut(ty: &mut Type) -> Option<&mut TypeReference> {
    let Type::Path(path) = ty else { return None };
    let PathArguments::AngleBracketed(arguments) = &mut path.path.segments.last_mut()?.arguments
    else {
        return None;
    };
    match arguments.args.first_mut()? {
        GenericArgument::Type(Type::Reference(reference)) => Some(reference),
        _ => None,
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match peel(ty) {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    }
}
