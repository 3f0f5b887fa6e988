//! The options of the service, in `#[service(…)]`, and of a method, in `#[notify(…)]` and `#[rpc(…)]`.

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote;
use syn::{
    Attribute, Ident, LitInt, LitStr, Meta, meta::ParseNestedMeta, parenthesized,
    parse::Parser as _, spanned::Spanned as _, token::Paren,
};

use crate::{errors::Errors, facade::Facade};

/// What `#[service(…)]` says.
#[derive(Default)]
pub(super) struct ServiceOptions {
    /// The name on the wire, if it is not that of the trait.
    pub(super) name: Option<LitStr>,
    pub(super) facade: Facade,
}

impl ServiceOptions {
    pub(super) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = ServiceOptions::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                if options.name.is_some() {
                    return Err(meta.error("`name` is given twice"));
                }
                options.name = Some(meta.value()?.parse()?);
                Ok(())
            } else if meta.path.is_ident("crate") {
                options.facade.parse(&meta)
            } else {
                Err(meta.error("no such option: there are `name = \"…\"` and `crate = path`"))
            }
        });
        if let Err(error) = parser.parse2(tokens) {
            errors.push(error);
        }
        options
    }
}

/// Whether an attribute is one of ours on a method, which rustc does not know.
pub(super) fn is_method_option(attribute: &Attribute) -> bool {
    attribute.path().is_ident("notify") || attribute.path().is_ident("rpc")
}

/// What `#[notify(…)]` and `#[rpc(…)]` say of a method.
#[derive(Default)]
pub(super) struct MethodOptions {
    /// The name on the wire, if it is not that of the method.
    pub(super) name: Option<LitStr>,
    /// Whether it runs in a task of its own from the start.
    pub(super) spawn: bool,
    /// How much of a stream may be on its way, if it is not what the connection has.
    pub(super) credit: Option<Credit>,
    /// Where it says that a second execution does no more than the first.
    pub(super) idempotent: Option<Span>,
    /// What its caller has to be allowed to do.
    pub(super) scope: Option<LitStr>,
    pub(super) is_notification: bool,
    /// What becomes of it when its peer is behind, and where that is said.
    pub(super) pressure: Option<(Pressure, Span)>,
}

impl MethodOptions {
    pub(super) fn parse(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut options = MethodOptions::default();
        for attribute in attributes {
            let parsed = if attribute.path().is_ident("notify") {
                options.parse_notify(attribute)
            } else if attribute.path().is_ident("rpc") {
                options.parse_rpc(attribute)
            } else {
                Ok(())
            };
            if let Err(error) = parsed {
                errors.push(error);
            }
        }
        options
    }

    fn parse_notify(&mut self, attribute: &Attribute) -> syn::Result<()> {
        self.is_notification = true;
        if let Meta::Path(_) = &attribute.meta {
            return Ok(());
        }
        attribute.parse_nested_meta(|meta| {
            let pressure = Pressure::parse(&meta)?;
            if self.pressure.is_some() {
                return Err(meta
                    .error("what becomes of a notification when its peer is behind is said once"));
            }
            self.pressure = Some((pressure, meta.path.span()));
            Ok(())
        })
    }

    fn parse_rpc(&mut self, attribute: &Attribute) -> syn::Result<()> {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                if self.name.is_some() {
                    return Err(meta.error("`name` is given twice"));
                }
                self.name = Some(meta.value()?.parse()?);
                Ok(())
            } else if meta.path.is_ident("spawn") {
                self.spawn = true;
                Ok(())
            } else if meta.path.is_ident("credit") {
                if self.credit.is_some() {
                    return Err(meta.error("`credit` is given twice"));
                }
                self.credit = Some(Credit::parse(&meta)?);
                Ok(())
            } else if meta.path.is_ident("idempotent") {
                self.idempotent = Some(meta.path.span());
                Ok(())
            } else if meta.path.is_ident("scope") {
                if self.scope.is_some() {
                    return Err(meta.error("`scope` is given twice"));
                }
                let scope: LitStr = meta.value()?.parse()?;
                if scope.value().is_empty() {
                    return Err(syn::Error::new(scope.span(), "a scope has a name"));
                }
                self.scope = Some(scope);
                Ok(())
            } else {
                Err(meta.error(
                    "no such option: there are `name = \"…\"`, `scope = \"…\"`, `spawn`, `idempotent` \
                     and `credit(items = …, bytes = …)`",
                ))
            }
        })
    }
}

/// What `#[notify(…)]` says: what becomes of a notification when its peer is behind.
#[derive(Clone, PartialEq)]
pub(super) enum Pressure {
    Volatile,
    DropNewest,
    DropOldest,
    /// The key is that argument.
    Conflate(Option<Ident>),
    Disconnect,
}

impl Pressure {
    fn parse(meta: &ParseNestedMeta<'_>) -> syn::Result<Self> {
        let is = |name| meta.path.is_ident(name);
        if is("conflate") {
            return Self::parse_conflate(meta);
        }
        let pressure = if is("volatile") {
            Pressure::Volatile
        } else if is("drop_newest") {
            Pressure::DropNewest
        } else if is("drop_oldest") {
            Pressure::DropOldest
        } else if is("disconnect") {
            Pressure::Disconnect
        } else {
            return Err(meta.error(
                "no such option: there are `volatile`, `drop_newest`, `drop_oldest`, `conflate`, \
                 `conflate(argument)` and `disconnect`",
            ));
        };
        Ok(pressure)
    }

    fn parse_conflate(meta: &ParseNestedMeta<'_>) -> syn::Result<Self> {
        if !meta.input.peek(Paren) {
            return Ok(Pressure::Conflate(None));
        }
        let inside;
        parenthesized!(inside in meta.input);
        let key: Ident = inside
            .parse()
            .map_err(|error| syn::Error::new(error.span(), ONE_KEY))?;
        if !inside.is_empty() {
            return Err(inside.error(ONE_KEY));
        }
        Ok(Pressure::Conflate(Some(key)))
    }

    /// The `Pressure`, as a constant. `arguments` are those on the wire.
    pub(super) fn expand<'a>(
        &self,
        private: &TokenStream,
        arguments: impl Iterator<Item = &'a Ident>,
    ) -> TokenStream {
        let variant = match self {
            Pressure::Volatile => quote!(Volatile),
            Pressure::DropNewest => quote!(DropNewest),
            Pressure::DropOldest => quote!(DropOldest),
            Pressure::Disconnect => quote!(Disconnect),
            Pressure::Conflate(None) => quote!(Conflate(::core::option::Option::None)),
            Pressure::Conflate(Some(key)) => {
                let place = arguments.take_while(|argument| *argument != key).count();
                let place = Literal::usize_unsuffixed(place);
                quote!(Conflate(::core::option::Option::Some(#place)))
            }
        };
        quote!(#private::Pressure::#variant)
    }
}

const ONE_KEY: &str = "the key is one argument of the method: `conflate(argument)`";

/// What `#[rpc(credit(…))]` says.
pub(super) struct Credit {
    pub(super) span: Span,
    items: Option<u32>,
    bytes: Option<u32>,
}

impl Credit {
    /// Those of `StreamCredit::default()`, which cannot be called in a constant.
    const DEFAULT_ITEMS: u32 = 16;
    const DEFAULT_BYTES: u32 = 256 << 10;

    fn parse(meta: &ParseNestedMeta<'_>) -> syn::Result<Self> {
        const KEYS: &str = "a credit is `items = …`, `bytes = …` or both";
        let mut credit = Credit {
            span: meta.path.span(),
            items: None,
            bytes: None,
        };
        meta.parse_nested_meta(|meta| {
            let (name, value) = if meta.path.is_ident("items") {
                ("items", &mut credit.items)
            } else if meta.path.is_ident("bytes") {
                ("bytes", &mut credit.bytes)
            } else {
                return Err(meta.error(KEYS));
            };
            if value.is_some() {
                return Err(meta.error(format!("`{name}` is given twice")));
            }
            let literal: LitInt = meta.value()?.parse()?;
            match literal.base10_parse::<u32>() {
                Ok(number @ 1..) => *value = Some(number),
                _ => {
                    return Err(syn::Error::new(
                        literal.span(),
                        format!("a credit is 1 to {}", u32::MAX),
                    ));
                }
            }
            Ok(())
        })?;
        if credit.items.is_none() && credit.bytes.is_none() {
            return Err(syn::Error::new(credit.span, KEYS));
        }
        Ok(credit)
    }

    /// The `StreamCredit`, as a constant.
    pub(super) fn expand(&self, private: &TokenStream) -> TokenStream {
        let items = self.items.unwrap_or(Self::DEFAULT_ITEMS);
        let bytes = self.bytes.unwrap_or(Self::DEFAULT_BYTES);
        quote!(#private::StreamCredit { items: #items, bytes: #bytes })
    }
}
