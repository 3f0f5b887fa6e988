//! `#[derive(RpcError)]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Fields, GenericParam, Ident, LitInt, Token, Variant,
    meta::ParseNestedMeta,
    parse::{Parse, ParseStream},
    parse_quote,
};

use crate::{errors::Errors, facade::Facade};

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let item: DeriveInput = match syn::parse2(item) {
        Ok(item) => item,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let implementation = implementation(&item, &mut errors);
    let errors = errors.into_tokens();
    quote!(#implementation #errors)
}

fn implementation(item: &DeriveInput, errors: &mut Errors) -> Option<TokenStream> {
    let options = Options::parse(&item.attrs, Place::Type, errors);
    let private = options.facade.private();
    let default = options
        .code
        .unwrap_or(Code::Constant(parse_quote!(UNKNOWN)));
    let code = match &item.data {
        Data::Enum(data) => code_of_variant(&data.variants, &default, &private, errors),
        Data::Struct(data) => {
            check_fields(&data.fields, errors);
            default.expand(&private)
        }
        Data::Union(data) => {
            errors.at(
                data.union_token,
                "an error is an enum or a struct: serde cannot read a union",
            );
            return None;
        }
    };
    let lifetimes = item.generics.params.iter().filter(|parameter| {
        let is_lifetime = matches!(parameter, GenericParam::Lifetime(_));
        if is_lifetime {
            errors.at(parameter, "an error is owned: it cannot have lifetimes");
        }
        is_lifetime
    });
    if lifetimes.count() > 0 {
        return None;
    }

    let ident = &item.ident;
    let mut generics = item.generics.clone();
    // Without parameters rustc checks these in the bodies, and points at the type.
    if !generics.params.is_empty() {
        generics.make_where_clause().predicates.push(parse_quote! {
            Self: #private::serde::Serialize
                + #private::serde::de::DeserializeOwned
                + ::core::fmt::Display
                + ::core::marker::Send
                + 'static
        });
    }
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let at_ident = ident.span().resolved_at(Span::mixed_site());
    let text = quote_spanned!(at_ident=> ::std::string::ToString::to_string(self));
    let write = quote_spanned!(at_ident=> details.write(self));
    let read = quote_spanned!(at_ident=> details.read(status));
    Some(quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #parameters #private::RpcError for #ident #arguments #conditions {
            fn status(&self) -> #private::Status {
                #private::Status::new(#code, #text)
            }

            fn encode_details(
                &self,
                details: #private::DetailsWriter<'_>,
            ) -> ::core::result::Result<(), #private::Status> {
                #write
            }

            fn from_wire(
                status: #private::Status,
                details: #private::Details<'_>,
            ) -> #private::CallError<Self> {
                #read
            }
        }
    })
}

/// A `match` on the variants, unless all of them have the code of the type.
fn code_of_variant<'a>(
    variants: impl IntoIterator<Item = &'a Variant>,
    default: &Code,
    private: &TokenStream,
    errors: &mut Errors,
) -> TokenStream {
    let mut arms = Vec::new();
    let mut is_exhaustive = true;
    for variant in variants {
        check_fields(&variant.fields, errors);
        if let Some(code) = Options::parse(&variant.attrs, Place::Variant, errors).code {
            let ident = &variant.ident;
            let code = code.expand(private);
            arms.push(quote!(Self::#ident { .. } => #code,));
        } else {
            is_exhaustive = false;
        }
    }
    let default = default.expand(private);
    if arms.is_empty() {
        return default;
    }
    if !is_exhaustive {
        arms.push(quote!(_ => #default,));
    }
    quote_spanned!(Span::mixed_site()=> match self { #(#arms)* })
}

fn check_fields(fields: &Fields, errors: &mut Errors) {
    for field in fields {
        Options::parse(&field.attrs, Place::Field, errors);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Type,
    Variant,
    Field,
}

/// The options in `#[rpc(…)]`.
#[derive(Default)]
struct Options {
    code: Option<Code>,
    facade: Facade,
}

impl Options {
    fn parse(attributes: &[Attribute], place: Place, errors: &mut Errors) -> Self {
        let mut options = Options::default();
        for attribute in attributes {
            if !attribute.path().is_ident("rpc") {
                continue;
            }
            if place == Place::Field {
                errors.at(attribute, "a field has no code: put this on the variant");
                continue;
            }
            if let Err(error) = attribute.parse_nested_meta(|meta| options.read(&meta, place)) {
                errors.push(error);
            }
        }
        options
    }

    fn read(&mut self, meta: &ParseNestedMeta<'_>, place: Place) -> syn::Result<()> {
        if meta.path.is_ident("code") {
            if self.code.is_some() {
                return Err(meta.error("`code` is given twice"));
            }
            self.code = Some(meta.value()?.parse()?);
            Ok(())
        } else if meta.path.is_ident("crate") && place == Place::Type {
            self.facade.parse(meta)
        } else if place == Place::Type {
            Err(meta.error("no such option: there are `code = …` and `crate = path`"))
        } else {
            Err(meta.error("no such option: there is `code = …`"))
        }
    }
}

enum Code {
    /// One of `wirecall::Code`.
    Constant(Ident),
    Number(u16),
}

impl Parse for Code {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Ident) && !input.peek2(Token![::]) {
            return input.parse().map(Code::Constant);
        }
        if !input.peek(LitInt) {
            return Err(input.error(
                "a code is the name of a constant of `wirecall::Code`, as `NOT_FOUND`, \
                 or a number",
            ));
        }
        let literal: LitInt = input.parse()?;
        match literal.base10_parse() {
            Ok(number @ (1..=16 | 64..=u16::MAX)) => Ok(Code::Number(number)),
            Ok(0) => Err(syn::Error::new(literal.span(), "0 is no error code")),
            Ok(_) => Err(syn::Error::new(
                literal.span(),
                "the codes 17 to 63 are reserved: an application has those from 64 on",
            )),
            Err(_) => Err(syn::Error::new(
                literal.span(),
                "a code is 1 to 16 or 64 to 65535",
            )),
        }
    }
}

impl Code {
    fn expand(&self, private: &TokenStream) -> TokenStream {
        match self {
            Code::Constant(name) => quote!(#private::Code::#name),
            Code::Number(number) => quote!(#private::Code::new(#number)),
        }
    }
}
