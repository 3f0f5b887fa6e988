//! `ChatClient`: calls the methods of the trait on a peer.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens as _, quote};
use syn::{Ident, Lifetime};

use super::{
    args::Argument,
    blame,
    contract::{Contract, Table},
    definition::Definition,
    method::{Kind, Method},
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
    let stub_methods = table.stub_methods(contract);
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
                        #private::Methods::table(#wire_name, &[#(#stub_methods),*])
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
                    methods: #private::Methods::new(service, &[#(#stub_methods),*]),
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
    let source_docs = method.taken_stream().map(|stream| {
        let doc = format!(
            "`{}` is a stream that is `Send + 'static`, or `BySender`, to send the items by hand: \
             `.open().await` gives the sender.",
            stream.ident
        );
        quote!(#[doc = ""] #[doc = #doc])
    });
    let taken = method.taken_stream();
    let source = contract.generics.source();
    let generics = generics(method, source);
    let parameters = method.arguments.iter().filter_map(|argument| {
        let (ident, ty) = match argument {
            Argument::Context(_) => return None,
            Argument::Wire(argument) => (&argument.ident, argument.lent.to_token_stream()),
            Argument::Stream(argument) => (&argument.ident, source.to_token_stream()),
        };
        Some(quote!(#ident: #ty))
    });
    let arguments = method.sent_type(private);
    let values = method.sent_values(private);
    let credit = match &method.credit {
        Some(credit) => {
            let credit = credit.expand(private);
            quote!(::core::option::Option::Some(#credit))
        }
        None => quote!(::core::option::Option::None),
    };
    let item = taken.map(|stream| &stream.item);
    let stream = taken.map(|stream| &stream.ident);
    let value = &reply.value;
    let error = reply.error.iter();
    let (call, start) = match method.kind() {
        Kind::Notification => (
            quote!(Notification<#arguments>),
            quote!(Notification::new(&self.peer, &self.methods, #index, #values)),
        ),
        Kind::Unary => (
            quote!(Call<#arguments, #value #(, #error)*>),
            quote!(Call::new(&self.peer, &self.methods, #index, #values)),
        ),
        Kind::ServerStreaming if reply.is_topic => (
            quote!(TopicCall<#arguments, #value #(, #error)*>),
            quote!(TopicCall::new(&self.peer, &self.methods, #index, #credit, #values)),
        ),
        Kind::ServerStreaming => (
            quote!(StreamCall<#arguments, #value #(, #error)*>),
            quote!(StreamCall::new(&self.peer, &self.methods, #index, #credit, #values)),
        ),
        Kind::ClientStreaming => (
            quote!(UploadCall<#arguments, #source, #item, #value #(, #error)*>),
            quote!(UploadCall::new(&self.peer, &self.methods, #index, #values, #stream)),
        ),
        Kind::Bidirectional => (
            quote!(DuplexCall<#arguments, #source, #item, #value #(, #error)*>),
            quote!(DuplexCall::new(&self.peer, &self.methods, #index, #credit, #values, #stream)),
        ),
    };
    let mut start = quote!(#private::#start);
    if !method.is_notification {
        start = blame::spread(start, ends(method));
    }
    quote! {
        #docs
        #source_docs
        #(#cfgs)*
        #(#deprecated)*
        #visibility fn #ident #generics(&self, #(#parameters),*) -> #private::#call {
            #start
        }
    }
}

/// The types that have to travel, from the first one that is not among the arguments.
fn ends(method: &Method) -> (Span, Span) {
    let site = Span::call_site();
    let reply = &method.reply;
    let mut ends = blame::ends(&reply.written, site);
    if let Some(stream) = method.taken_stream() {
        let item = blame::ends(&stream.item, site);
        ends = (item.0, reply.written.as_ref().map_or(item.1, |_| ends.1));
    }
    if reply.stream.is_some_and(|stream| stream.may_be_refused) || reply.is_topic {
        ends.1 = blame::ends(&reply.error, site).1;
    }
    ends
}

/// What the method is generic over: how long it borrows, and the stream that it sends.
fn generics(method: &Method, source: &Ident) -> Option<TokenStream> {
    let lifetime = method
        .on_the_wire()
        .any(|argument| argument.borrows)
        .then(|| Lifetime::new(ARGUMENT_LIFETIME, Span::call_site()).into_token_stream());
    let source = method.taken_stream().map(|_| source.into_token_stream());
    let mut parameters = lifetime.into_iter().chain(source).peekable();
    parameters.peek()?;
    Some(quote!(<#(#parameters),*>))
}
