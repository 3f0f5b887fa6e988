//! The trait, read and checked: what the server, the client and the notifier are written from.

use std::collections::HashMap;

use proc_macro2::{Literal, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, GenericParam, Ident, ItemTrait, TraitItem, Visibility, spanned::Spanned as _,
};

use super::{
    generics::TraitGenerics,
    method::Method,
    names::WireName,
    options::{ServiceOptions, is_method_option},
};
use crate::errors::Errors;

pub(super) struct Contract {
    pub(super) ident: Ident,
    pub(super) visibility: Visibility,
    pub(super) deprecated: Vec<Attribute>,
    pub(super) generics: TraitGenerics,
    /// The name of the service on the wire.
    pub(super) wire_name: String,
    /// The path of `wirecall::__private`.
    pub(super) private: TokenStream,
    pub(super) methods: Vec<Method>,
}

impl Contract {
    /// Reads the trait. With an error in a method, that method is left out; with one in the trait
    /// itself there is nothing to generate.
    pub(super) fn parse(
        options: TokenStream,
        item: &ItemTrait,
        errors: &mut Errors,
    ) -> Option<Self> {
        let options = ServiceOptions::parse(options, errors);
        let name = WireName::of_service(&item.ident, options.name.as_ref(), errors);
        let private = options.facade.private();

        let mut trait_errors = Errors::default();
        check_trait(item, &mut trait_errors);
        let mut methods = Vec::new();
        for item in &item.items {
            match item {
                TraitItem::Fn(method) => methods.extend(Method::parse(method, errors)),
                item => check_other_item(item, &mut trait_errors),
            }
        }
        check_duplicates(&methods, errors);

        let is_sound = trait_errors.is_empty();
        errors.append(trait_errors);
        is_sound.then(|| Contract {
            ident: item.ident.clone(),
            visibility: generated_visibility(&item.vis),
            deprecated: item
                .attrs
                .iter()
                .filter(|attribute| attribute.path().is_ident("deprecated"))
                .cloned()
                .collect(),
            generics: TraitGenerics::new(item, &private),
            wire_name: name.text,
            private,
            methods,
        })
    }

    /// The name of a generated type. rustc points at the trait where there is a second one of
    /// that name, and takes it for generated code everywhere else.
    pub(super) fn type_name(&self, suffix: &str) -> Ident {
        let span = self.ident.span().resolved_at(Span::call_site());
        format_ident!("{}{suffix}", self.ident, span = span)
    }
}

/// The visibility of the trait, for generated code. With the user's own token in front, rustc
/// and clippy would take all of it for the user's and find fault with it.
fn generated_visibility(visibility: &Visibility) -> Visibility {
    let mut visibility = visibility.clone();
    let token = match &mut visibility {
        Visibility::Public(token) => token,
        Visibility::Restricted(restricted) => &mut restricted.pub_token,
        Visibility::Inherited => return visibility,
    };
    token.span = token.span.resolved_at(Span::call_site());
    visibility
}

fn check_trait(item: &ItemTrait, errors: &mut Errors) {
    if let Some(unsafety) = &item.unsafety {
        errors.at(unsafety, "a service cannot be an `unsafe` trait");
    }
    if let Some(auto) = &item.modifiers.auto_token {
        errors.at(auto, "a service cannot be an `auto` trait");
    }
    for attribute in item
        .attrs
        .iter()
        .filter(|attribute| is_method_option(attribute))
    {
        errors.at(
            attribute,
            "this goes on a method; the options of a service are those of `#[service(…)]`",
        );
    }
    for parameter in &item.generics.params {
        if let GenericParam::Lifetime(lifetime) = parameter {
            errors.at(
                lifetime,
                "a service cannot have lifetime parameters: it lives as long as its server",
            );
        }
    }
}

fn check_other_item(item: &TraitItem, errors: &mut Errors) {
    match item {
        TraitItem::Const(item) => errors.at_span(
            item.ident.span(),
            "a service cannot have associated constants: the caller does not know its \
             implementation",
        ),
        TraitItem::Type(item) => errors.at_span(
            item.ident.span(),
            "a service cannot have associated types: the caller does not know its \
             implementation; make it a parameter of the trait",
        ),
        TraitItem::Macro(item) => errors.at(
            &item.mac.path,
            "the methods of a service stand in the trait itself: `#[service]` cannot see those of \
             a macro",
        ),
        item => errors.at_span(item.span(), "a service has only methods"),
    }
}

/// Two methods of one name are an error, unless `cfg`s keep them apart.
fn check_duplicates(methods: &[Method], errors: &mut Errors) {
    let mut seen: HashMap<&str, &Method> = HashMap::new();
    for method in methods {
        let Some(first) = seen.insert(&method.wire_name.text, method) else {
            continue;
        };
        if first.cfgs.is_empty() || method.cfgs.is_empty() {
            errors.at_span(
                method.wire_name.span,
                format!(
                    "`{}` is already called \"{}\" on the wire",
                    first.ident, first.wire_name.text
                ),
            );
        } else if first.pressure != method.pressure {
            errors.at_span(
                method.wire_name.span,
                format!(
                    "what becomes of \"{}\" when its peer is behind differs between configurations",
                    first.wire_name.text
                ),
            );
        } else if first.kind() != method.kind() {
            errors.at_span(
                method.wire_name.span,
                format!(
                    "\"{}\" is both {} and {}, in different configurations",
                    first.wire_name.text,
                    first.kind().described(),
                    method.kind().described()
                ),
            );
        }
    }
}

/// The methods as the tables name them, each once.
pub(super) struct Table<'a> {
    rows: Vec<&'a Method>,
}

impl<'a> Table<'a> {
    /// Methods that are kept apart by `cfg`s share a row.
    pub(super) fn new(methods: impl Iterator<Item = &'a Method>) -> Self {
        let mut rows: Vec<&Method> = Vec::new();
        for method in methods {
            if !rows
                .iter()
                .any(|row| row.wire_name.text == method.wire_name.text)
            {
                rows.push(method);
            }
        }
        Table { rows }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Method> {
        self.rows.iter().copied()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.rows().map(|row| row.wire_name.text.as_str())
    }

    /// The rows as a stub's table has them.
    pub(super) fn stub_methods(&self, contract: &Contract) -> Vec<TokenStream> {
        let private = &contract.private;
        let row = |row: &Method| {
            let name = &row.wire_name.text;
            // Whichever of those that share the row is the one: it is safe to take it for one.
            let is_idempotent = contract
                .methods
                .iter()
                .filter(|method| method.wire_name.text == *name)
                .all(|method| method.is_idempotent);
            let idempotent = is_idempotent.then(|| quote!(.idempotent()));
            let pressure = row.pressure.as_ref().map(|pressure| {
                let arguments = row.on_the_wire().map(|argument| &argument.ident);
                let pressure = pressure.expand(private, arguments);
                quote!(.pressure(#pressure))
            });
            quote!(#private::StubMethod::new(#name) #idempotent #pressure)
        };
        self.rows().map(row).collect()
    }

    /// The place of a method in the table.
    ///
    /// It does not depend on `cfg`s, which cannot be known here: a table also has the methods
    /// that are configured out, and a server answers to them that it does not have them.
    pub(super) fn index(&self, method: &Method) -> Literal {
        let index = self
            .names()
            .take_while(|name| *name != method.wire_name.text)
            .count();
        Literal::usize_unsuffixed(index)
    }
}
