//! What the generated types have in common: a definition, `Clone` and `Debug`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::Generics;

use super::contract::Contract;

/// A type that stands beside the trait.
pub(super) struct Definition<'a> {
    pub(super) suffix: &'static str,
    pub(super) doc: String,
    pub(super) generics: Generics,
    /// Names and types.
    pub(super) fields: &'a [(&'static str, TokenStream)],
    /// The field that `Debug` shows.
    pub(super) shown: &'static str,
}

impl Definition<'_> {
    pub(super) fn expand(&self, contract: &Contract) -> TokenStream {
        let Contract {
            visibility,
            deprecated,
            ..
        } = contract;
        let Definition { doc, generics, .. } = self;
        let name = contract.type_name(self.suffix);
        let name_text = name.to_string();
        let (parameters, arguments, _) = generics.split_for_impl();
        let marker = contract.generics.marker_type();
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(field, ty)| (format_ident!("{field}"), ty))
            .chain(marker.iter().map(|ty| (format_ident!("marker"), ty)))
            .collect();
        let declared = fields.iter().map(|(field, ty)| quote!(#field: #ty));
        let cloned = fields
            .iter()
            .map(|(field, _)| quote!(#field: ::core::clone::Clone::clone(&self.#field)));
        let shown_text = self.shown;
        let shown = format_ident!("{shown_text}");
        quote! {
            #[doc = #doc]
            #(#deprecated)*
            #[allow(dead_code)]
            #visibility struct #name #generics {
                #(#declared,)*
            }

            #[automatically_derived]
            #[allow(deprecated)]
            impl #parameters ::core::clone::Clone for #name #arguments {
                fn clone(&self) -> Self {
                    Self { #(#cloned,)* }
                }
            }

            #[automatically_derived]
            #[allow(deprecated)]
            impl #parameters ::core::fmt::Debug for #name #arguments {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_struct(#name_text)
                        .field(#shown_text, &self.#shown)
                        .finish_non_exhaustive()
                }
            }
        }
    }
}
