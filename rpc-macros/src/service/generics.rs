//! The type and const parameters of the trait, as the generated types have them.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{GenericParam, Generics, Ident, ItemTrait, TypeParam, WherePredicate, parse_quote};

pub(super) struct TraitGenerics {
    /// With the defaults, without bounds: for the definition of a type, and for what its
    /// implementations need no bounds for.
    bare: Generics,
    /// With the bounds of the trait, and those of what travels.
    bounded: Generics,
    /// What the parameter for the implementation of the trait is called.
    service: Ident,
    /// What the parameter for the stream that a caller sends is called.
    source: Ident,
    bound: TokenStream,
}

impl TraitGenerics {
    pub(super) fn new(item: &ItemTrait, private: &TokenStream) -> Self {
        let ident = &item.ident;
        let (_, arguments, _) = item.generics.split_for_impl();
        TraitGenerics {
            bare: bare(&item.generics),
            bounded: bounded(&item.generics, private),
            service: own_parameter(item, "WirecallService"),
            source: own_parameter(item, "WirecallSource"),
            bound: quote!(#ident #arguments),
        }
    }

    /// `S`, the implementation of the trait.
    pub(super) fn service(&self) -> &Ident {
        &self.service
    }

    /// `S`, the stream that a caller sends.
    pub(super) fn source(&self) -> &Ident {
        &self.source
    }

    /// The trait with its arguments.
    pub(super) fn bound(&self) -> &TokenStream {
        &self.bound
    }

    /// The parameters of a type that knows no implementation.
    pub(super) fn bare(&self) -> Generics {
        self.bare.clone()
    }

    /// The same with all bounds.
    pub(super) fn bounded(&self) -> Generics {
        self.bounded.clone()
    }

    /// The parameters of a type that holds an implementation.
    pub(super) fn bare_with_service(&self) -> Generics {
        let service = &self.service;
        with_first(self.bare(), parse_quote!(#service))
    }

    /// The same with all bounds.
    pub(super) fn bounded_with_service(&self) -> Generics {
        let (service, bound) = (&self.service, &self.bound);
        with_first(self.bounded(), parse_quote!(#service: #bound))
    }

    /// The type of the field `marker` that mentions the type parameters, if there are any.
    pub(super) fn marker_type(&self) -> Option<TokenStream> {
        let mut types = self.bare.type_params().map(|parameter| &parameter.ident);
        let first = types.next()?;
        // Of a function, so that the type is `Send` and `Sync` whatever the parameters are.
        Some(quote!(::core::marker::PhantomData<fn() -> (#first, #(#types,)*)>))
    }

    /// That field in the construction of a type.
    pub(super) fn marker_value(&self) -> Option<TokenStream> {
        self.marker_type()
            .map(|_| quote!(marker: ::core::marker::PhantomData,))
    }
}

fn bare(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    generics.where_clause = None;
    for parameter in &mut generics.params {
        match parameter {
            GenericParam::Type(parameter) => {
                parameter.attrs.clear();
                parameter.colon_token = None;
                parameter.bounds.clear();
            }
            GenericParam::Const(parameter) => parameter.attrs.clear(),
            GenericParam::Lifetime(_) => {}
        }
    }
    generics
}

fn bounded(generics: &Generics, private: &TokenStream) -> Generics {
    let mut generics = generics.clone();
    let types: Vec<Ident> = generics
        .type_params()
        .map(|parameter| parameter.ident.clone())
        .collect();
    if let Some(clause) = &mut generics.where_clause {
        // What the trait asks of `Self` comes with the bound on the service.
        clause.predicates = clause
            .predicates
            .iter()
            .filter(|predicate| !mentions(predicate.to_token_stream(), "Self"))
            .cloned()
            .collect();
    }
    for ty in types {
        let predicate: WherePredicate = parse_quote! {
            #ty: #private::serde::Serialize
                + #private::serde::de::DeserializeOwned
                + ::core::marker::Send
                + ::core::marker::Sync
                + 'static
        };
        generics.make_where_clause().predicates.push(predicate);
    }
    generics
}

fn with_first(mut generics: Generics, parameter: TypeParam) -> Generics {
    generics.params.insert(0, GenericParam::Type(parameter));
    generics
}

/// `S`, unless it stands for something else in the trait.
fn own_parameter(item: &ItemTrait, otherwise: &str) -> Ident {
    let name = if mentions(item.to_token_stream(), "S") {
        otherwise
    } else {
        "S"
    };
    Ident::new(name, Span::call_site())
}

fn mentions(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}
