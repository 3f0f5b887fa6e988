//! `ChatNotifier`: sends the notifications of the trait to many peers.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::{
    contract::{Contract, Table},
    definition::Definition,
    method::Method,
};

/// Nothing, for a trait without notifications.
pub(super) fn expand(contract: &Contract) -> TokenStream {
    let notifications = contract
        .methods
        .iter()
        .filter(|method| method.is_notification);
    if notifications.clone().next().is_none() {
        return TokenStream::new();
    }
    let definition = definition(contract);
    let inherent = inherent(contract, notifications);
    quote!(#definition #inherent)
}

fn definition(contract: &Contract) -> TokenStream {
    let private = &contract.private;
    let fields = [
        ("audience", quote!(#private::Broadcast)),
        ("methods", quote!(#private::Methods)),
    ];
    Definition {
        suffix: "Notifier",
        doc: format!(
            "Sends the notifications of [`{}`] to many peers.",
            contract.ident
        ),
        generics: contract.generics.bare(),
        fields: &fields,
        shown: "audience",
    }
    .expand(contract)
}

fn inherent<'a>(
    contract: &Contract,
    notifications: impl Iterator<Item = &'a Method> + Clone,
) -> TokenStream {
    let Contract {
        visibility,
        wire_name,
        private,
        ..
    } = contract;
    let notifier = contract.type_name("Notifier");
    let generics = contract.generics.bounded();
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let marker = contract.generics.marker_value();
    let table = Table::new(notifications.clone());
    let stub_methods = table.stub_methods(contract);
    let senders = notifications.map(|method| sender(method, table.index(method), contract));
    quote! {
        #[allow(dead_code, deprecated, clippy::too_many_arguments, clippy::type_complexity)]
        impl #parameters #notifier #arguments #conditions {
            /// Sends to these peers, or to an audience of a hub.
            #[must_use]
            #visibility fn to(
                audience: impl ::core::convert::Into<#private::Broadcast>,
            ) -> Self {
                static METHODS: ::std::sync::LazyLock<::std::sync::Arc<[#private::Method]>> =
                    ::std::sync::LazyLock::new(|| {
                        #private::Methods::table(#wire_name, &[#(#stub_methods),*])
                    });
                Self {
                    audience: ::core::convert::Into::into(audience),
                    methods: #private::Methods::from_static(&METHODS),
                    #marker
                }
            }

            /// Sends to the service that the peers serve under another name.
            #[must_use]
            #visibility fn named(mut self, service: &str) -> Self {
                self.methods = #private::Methods::new(service, &[#(#stub_methods),*]);
                self
            }

            #(#senders)*
        }
    }
}

/// The method that sends a notification.
fn sender(method: &Method, index: Literal, contract: &Contract) -> TokenStream {
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
        ..
    } = method;
    let docs = method.docs(trait_ident);
    let parameters = method.on_the_wire().map(|argument| {
        let (ident, ty) = (&argument.ident, &argument.written);
        quote!(#ident: #ty)
    });
    let values = method.sent_values(private);
    quote! {
        #docs
        ///
        /// # Errors
        /// If the arguments cannot be encoded, or are more than a peer takes.
        #(#cfgs)*
        #(#deprecated)*
        #visibility async fn #ident(
            &self,
            #(#parameters),*
        ) -> ::core::result::Result<#private::Delivery, #private::Status> {
            self.audience.send(&self.methods, #index, &#values).await
        }
    }
}
