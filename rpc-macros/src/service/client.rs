//! `ChatClient`: calls the methods of the trait on a peer.

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote;
use syn::Lifetime;

use super::{
    blame,
    contract::{Contract, Table},
    definition::Definition,
    method::Method,
    travel::ARGUMENT_LIFETIME,
};

pub(super) fn expand(contract: &Contract) -> TokenStream {
    let definition = definition(contract);
    let inherent = inherent(contract);
    quote!(#definition #inherent)
}

fn definition(contract: &Contract) -> TokenStream {
    let private = &contract.private;
    let fields = [
        ("peer", quote!(#private::Peer)),
        ("methods", quote!(#private::Methods)),
    ];
    Definition {
        suffix: "Client",
        doc: format!("Calls the methods of [`{}`] on a peer.", contract.ident),
        generics: contract.generics.bare(),
        fields: &fields,
        shown: "peer",
    }
    .expand(contract)
}

fn inherent(contract: &Contract) -> TokenStream {
    let Contract {
        visibility,
        wire_name,
        private,
        methods,
        ..
    } = contract;
    let client = contract.type_name("Client");
    let generics = contract.generics.bounded();
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let marker = contract.generics.marker_value();
    let table = Table::new(methods.iter());
    let names: Vec<&str> = table.names().collect();
    let stubs = methods
        .iter()
        .map(|method| stub(method, table.index(method), contract));
    quote! {
        #[allow(dead_code, deprecated, clippy::too_many_arguments, clippy::type_complexity)]
        impl #parameters #client #arguments #conditions {
            /// The name of the service on the wire, unless it is served under another one.
            #visibility const NAME: &'static str = #wire_name;

            /// Calls the service of this peer.
            #[must_use]
            #visibility fn new(peer: impl ::core::convert::AsRef<#private::Peer>) -> Self {
                static METHODS: ::std::sync::LazyLock<::std::sync::Arc<[#private::Method]>> =
                    ::std::sync::LazyLock::new(|| {
                        #private::Methods::table(#wire_name, &[#(#names),*])
                    });
                Self {
                    peer: ::core::clone::Clone::clone(peer.as_ref()),
                    methods: #private::Methods::from_static(&METHODS),
                    #marker
                }
            }

            /// Calls the service that this peer serves under another name.
            #[must_use]
            #visibility fn named(
                peer: impl ::core::convert::AsRef<#private::Peer>,
                service: &str,
            ) -> Self {
                Self {
                    peer: ::core::clone::Clone::clone(peer.as_ref()),
                    methods: #private::Methods::new(service, &[#(#names),*]),
                    #marker
                }
            }

            /// The peer that is called.
            #[must_use]
            #visibility fn peer(&self) -> &#private::Peer {
                &self.peer
            }

            #(#stubs)*
        }
    }
}

/// The method that makes the call.
fn stub(method: &Method, index: Literal, contract: &Contract) -> TokenStream {
    let Contract {
        ident: trait_ident,
        visibility,
        private,
        ..
    } = contract;
    let Method {
        ident,
        cfgs,
        deprecated,
        reply,
        ..
    } = method;
    let docs = method.docs(trait_ident);
    let lifetime = method
        .on_the_wire()
        .any(|argument| argument.borrows)
        .then(|| Lifetime::new(ARGUMENT_LIFETIME, Span::call_site()))
        .map(|lifetime| quote!(<#lifetime>));
    let parameters = method.on_the_wire().map(|argument| {
        let (ident, ty) = (&argument.ident, &argument.lent);
        quote!(#ident: #ty)
    });
    let arguments = method.sent_type(private);
    let values = method.sent_values(private);
    let inputs = quote!((&self.peer, &self.methods, #index, #values));
    let (call, start) = if method.is_notification {
        (
            quote!(#private::Notification<#arguments>),
            quote!(#private::Notification::new #inputs),
        )
    } else {
        let value = &reply.value;
        let error = reply.error.iter();
        let ends = blame::ends(&reply.written, Span::call_site());
        (
            quote!(#private::Call<#arguments, #value #(, #error)*>),
            blame::spread(quote!(#private::Call::new #inputs), ends),
        )
    };
    quote! {
        #docs
        #(#cfgs)*
        #(#deprecated)*
        #visibility fn #ident #lifetime(&self, #(#parameters),*) -> #call {
            #start
        }
    }
}
