//! `ChatServer<S>`: serves an implementation of the trait.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::ext::IdentExt as _;

use super::{
    args::Argument,
    blame,
    contract::{Contract, Table},
    definition::Definition,
    method::{Kind, Method},
};

pub(super) fn expand(contract: &Contract) -> TokenStream {
    let definition = definition(contract);
    let inherent = inherent(contract);
    let service = service(contract);
    quote!(#definition #inherent #service)
}

fn definition(contract: &Contract) -> TokenStream {
    let service = contract.generics.service();
    let fields = [
        ("service", quote!(::std::sync::Arc<#service>)),
        ("name", quote!(::std::borrow::Cow<'static, str>)),
    ];
    Definition {
        suffix: "Server",
        doc: format!("Serves an implementation of [`{}`].", contract.ident),
        generics: contract.generics.bare_with_service(),
        fields: &fields,
        shown: "name",
    }
    .expand(contract)
}

fn inherent(contract: &Contract) -> TokenStream {
    let Contract {
        visibility,
        wire_name,
        ..
    } = contract;
    let server = contract.type_name("Server");
    let service = contract.generics.service();
    let generics = contract.generics.bounded_with_service();
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let marker = contract.generics.marker_value();
    quote! {
        #[allow(dead_code, deprecated)]
        impl #parameters #server #arguments #conditions {
            /// The name of the service on the wire, unless it is served under another one.
            #visibility const NAME: &'static str = #wire_name;

            /// Serves this implementation.
            #[must_use]
            #visibility fn new(service: #service) -> Self {
                Self::from_arc(::std::sync::Arc::new(service))
            }

            /// Serves an implementation that others hold too.
            #[must_use]
            #visibility fn from_arc(service: ::std::sync::Arc<#service>) -> Self {
                Self {
                    service,
                    name: ::std::borrow::Cow::Borrowed(#wire_name),
                    #marker
                }
            }

            /// Serves it under another name, so that one server can have it twice.
            #[must_use]
            #visibility fn named(
                mut self,
                name: impl ::core::convert::Into<::std::borrow::Cow<'static, str>>,
            ) -> Self {
                self.name = ::core::convert::Into::into(name);
                self
            }
        }
    }
}

fn service(contract: &Contract) -> TokenStream {
    let Contract {
        private, methods, ..
    } = contract;
    let server = contract.type_name("Server");
    let service = contract.generics.service();
    let generics = contract.generics.bounded_with_service();
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let table = Table::new(methods.iter());
    let infos = table.rows().map(|method| info(method, contract));
    let arms = methods
        .iter()
        .map(|method| arm(method, table.index(method), contract));
    // The arguments of the user's methods are variables here: mixed-site hygiene keeps ours
    // apart from them.
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        #[allow(deprecated)]
        impl #parameters #private::Service for #server #arguments #conditions {
            fn name(&self) -> &str {
                &self.name
            }

            fn methods(&self) -> &'static [#private::MethodInfo] {
                const METHODS: &[#private::MethodInfo] = &[#(#infos),*];
                METHODS
            }

            fn dispatcher(&self) -> ::std::boxed::Box<dyn #private::Dispatcher> {
                ::std::boxed::Box::new(#private::PollOnce::new(
                    ::std::sync::Arc::clone(&self.service),
                    |service: ::std::sync::Arc<#service>, call: #private::InboundCall| async move {
                        let reply = match call.method() {
                            #(#arms)*
                            _ => call.unknown(),
                        };
                        (call.end(reply), service)
                    },
                ))
            }
        }
    }
}

fn info(method: &Method, contract: &Contract) -> TokenStream {
    let Contract {
        private, methods, ..
    } = contract;
    let name = &method.wire_name.text;
    let kind = method.kind().expand(private);
    // Any of those that share a name and are kept apart by `cfg`s may ask for these.
    let same = methods.iter().filter(|other| other.wire_name.text == *name);
    let spawn = same
        .clone()
        .any(|other| other.spawn)
        .then(|| quote!(.spawn()));
    let scope = same
        .clone()
        .find_map(|other| other.scope.as_ref())
        .map(|scope| quote!(.scope(#scope)));
    let credit = same
        .filter_map(|other| other.credit.as_ref())
        .map(|credit| credit.expand(private))
        .next()
        .map(|credit| quote!(.credit(#credit)));
    quote!(#private::MethodInfo::new(#name, #kind) #spawn #scope #credit)
}

/// Decodes the arguments of a method, calls it, and encodes what it returns.
fn arm(method: &Method, index: Literal, contract: &Contract) -> TokenStream {
    let private = &contract.private;
    let service = contract.generics.service();
    let bound = contract.generics.bound();
    let Method { ident, cfgs, .. } = method;
    let names = method
        .on_the_wire()
        .map(|argument| argument.ident.unraw().to_string());
    let variables = method.on_the_wire().map(|argument| &argument.ident);
    let types = decoded_types(method, private);
    let passed = method.arguments.iter().map(|argument| match argument {
        Argument::Context(span) => {
            quote_spanned!(span.resolved_at(Span::mixed_site())=> call.context())
        }
        Argument::Wire(argument) => argument.passed_value(),
        Argument::Stream(stream) => {
            let item = &stream.item;
            let streaming = quote_spanned!(Span::mixed_site()=> call.streaming);
            let streaming = blame::spread(streaming, blame::ends(item, Span::mixed_site()));
            quote!(#streaming::<#item>())
        }
    });
    let site = Span::mixed_site();
    let wait = method.is_async.then(|| quote_spanned!(site=> .await));
    let run = quote_spanned! {site=>
        <#service as #bound>::#ident(&*service, #(#passed),*) #wait
    };
    let reply = match method.kind() {
        Kind::Notification => quote_spanned! {site=>
            #run;
            call.handled()
        },
        Kind::Unary | Kind::ClientStreaming => {
            let accept = method
                .taken_stream()
                .map(|_| quote_spanned!(site=> call.accept();));
            let respond = respond(method);
            quote_spanned! {site=>
                #accept
                let result = #run;
                #respond
            }
        }
        _ if method.reply.is_topic => respond_topic(method, &run, private),
        Kind::ServerStreaming | Kind::Bidirectional => respond_stream(method, &run, private),
    };
    let run = quote_spanned! {site=>
        match call.args::<#types>(&[#(#names),*]) {
            ::core::result::Result::Ok((#(#variables,)*)) => { #reply }
            ::core::result::Result::Err(status) => call.refuse(status),
        }
    };
    // Here, and not where calls are started: those of other methods are not to pay for it.
    let run = match &method.scope {
        None => run,
        Some(scope) => quote_spanned! {site=>
            match call.check_scope(#scope) {
                ::core::result::Result::Ok(()) => #run,
                ::core::result::Result::Err(status) => call.refuse(status),
            }
        },
    };
    quote_spanned! {site=>
        #(#cfgs)*
        #index => #run,
    }
}

/// The tuple of the arguments, where rustc can point at them if one cannot be decoded.
fn decoded_types(method: &Method, private: &TokenStream) -> TokenStream {
    let types: Vec<TokenStream> = method
        .on_the_wire()
        .map(|argument| argument.decoded_type(private))
        .collect();
    let mut tuple = TokenStream::new();
    method
        .parentheses
        .surround(&mut tuple, |tuple| quote!(#(#types,)*).to_tokens(tuple));
    tuple
}

/// Encodes `result`.
fn respond(method: &Method) -> TokenStream {
    let site = Span::mixed_site();
    let respond = match method.reply.error {
        Some(_) => quote!(call.respond_result),
        None => quote!(call.respond),
    };
    let ends = blame::ends(&method.reply.written, site);
    let respond = blame::spread(respond, ends);
    let result = blame::spread(quote!(&result), ends);
    quote_spanned!(site=> #respond(#result))
}

/// Serves the topic that `run` gives.
fn respond_topic(method: &Method, run: &TokenStream, private: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let reply = &method.reply;
    let value = &reply.value;
    let ends = blame::ends(&reply.written, site);
    let respond = blame::spread(quote!(#private::InboundCall::respond_topic::<#value>), ends);
    let Some(error) = &reply.error else {
        return quote_spanned! {site=>
            let topic = #run;
            #respond(&call, topic).await
        };
    };
    let refuse = blame::spread(
        quote!(#private::InboundCall::respond_result::<(), #error>),
        blame::ends(error, site),
    );
    quote_spanned! {site=>
        match #run {
            ::core::result::Result::Ok(topic) => #respond(&call, topic).await,
            ::core::result::Result::Err(error) => {
                #refuse(&call, &::core::result::Result::Err(error))
            }
        }
    }
}

/// Sends the items of the stream that `run` gives.
fn respond_stream(method: &Method, run: &TokenStream, private: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let reply = &method.reply;
    let stream = reply.stream;
    let respond = if stream.is_some_and(|stream| stream.may_fail) {
        quote!(respond_fallible_stream)
    } else {
        quote!(respond_stream)
    };
    let ends = blame::ends(&reply.written, site);
    let items = blame::spread(quote!(stream), ends);
    let items = quote_spanned!(site=> (&call, #items));
    let respond = blame::spread(quote!(#private::InboundCall::#respond #items.await), ends);
    match &reply.error {
        Some(error) if stream.is_some_and(|stream| stream.may_be_refused) => {
            let refuse = blame::spread(
                quote!(#private::InboundCall::respond_result::<(), #error>),
                blame::ends(error, site),
            );
            quote_spanned! {site=>
                match #run {
                    ::core::result::Result::Ok(stream) => #respond,
                    ::core::result::Result::Err(error) => {
                        #refuse(&call, &::core::result::Result::Err(error))
                    }
                }
            }
        }
        _ => quote_spanned! {site=>
            let stream = #run;
            #respond
        },
    }
}
