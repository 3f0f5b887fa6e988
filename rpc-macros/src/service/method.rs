//! One method of the trait, checked.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, FnArg, GenericParam, Ident, LitStr, ReceiverKind, ReturnType, Safety, Signature,
    TraitItemFn, Type, token::Paren,
};

use super::{
    args::{self, Argument, WireArgument},
    blame,
    names::{self, WireName},
    options::{Credit, MethodOptions, Pressure},
    reply::Reply,
    stream::{self, StreamArgument},
};
use crate::errors::Errors;

const NO_LIFETIMES: &str = "a method of a service has no named lifetimes: leave it out";

pub(super) struct Method {
    pub(super) ident: Ident,
    pub(super) wire_name: WireName,
    pub(super) is_notification: bool,
    /// Not, if the stream that it returns is there at once.
    pub(super) is_async: bool,
    /// Whether it runs in a task of its own from the start.
    pub(super) spawn: bool,
    /// How much of its streams may be on its way, if it says so.
    pub(super) credit: Option<Credit>,
    /// Whether a second execution does no more than the first.
    pub(super) is_idempotent: bool,
    /// What its caller has to be allowed to do.
    pub(super) scope: Option<LitStr>,
    /// What becomes of a notification when its peer is behind, if it says so.
    pub(super) pressure: Option<Pressure>,
    pub(super) docs: Vec<Attribute>,
    pub(super) cfgs: Vec<Attribute>,
    pub(super) deprecated: Vec<Attribute>,
    /// In the order of the trait.
    pub(super) arguments: Vec<Argument>,
    /// The parentheses around them, at which rustc is to point.
    pub(super) parentheses: Paren,
    pub(super) reply: Reply,
}

/// The shape of a method: the variants of `MethodKind`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    Notification,
    ServerStreaming,
    ClientStreaming,
    Bidirectional,
}

impl Kind {
    /// The variant of `MethodKind`.
    pub(super) fn expand(self, private: &TokenStream) -> TokenStream {
        let variant = match self {
            Kind::Unary => quote!(Unary),
            Kind::Notification => quote!(Notification),
            Kind::ServerStreaming => quote!(ServerStreaming),
            Kind::ClientStreaming => quote!(ClientStreaming),
            Kind::Bidirectional => quote!(Bidirectional),
        };
        quote!(#private::MethodKind::#variant)
    }

    pub(super) fn described(self) -> &'static str {
        match self {
            Kind::Unary => "a call",
            Kind::Notification => "a notification",
            Kind::ServerStreaming => "a call that returns a stream",
            Kind::ClientStreaming => "a call that takes a stream",
            Kind::Bidirectional => "a call that takes and returns a stream",
        }
    }
}

impl Method {
    /// Reads a method. One with errors is left out of what is generated.
    pub(super) fn parse(item: &TraitItemFn, errors: &mut Errors) -> Option<Self> {
        let mut own_errors = Errors::default();
        let method = Self::parse_all(item, &mut own_errors);
        let is_sound = own_errors.is_empty();
        errors.append(own_errors);
        is_sound.then_some(method)
    }

    fn parse_all(item: &TraitItemFn, errors: &mut Errors) -> Self {
        let signature = &item.sig;
        if let Some(defaultness) = &item.modifiers.defaultness {
            errors.at(defaultness, "a method of a service cannot be `default`");
        }
        check_signature(signature, errors);
        let options = MethodOptions::parse(&item.attrs, errors);
        if options.is_notification
            && let ReturnType::Type(_, ty) = &signature.output
            && !matches!(args::peel(ty), Type::Tuple(tuple) if tuple.elems.is_empty())
        {
            errors.at(
                ty,
                "a notification is not answered: return nothing, or leave `#[notify]` out",
            );
        }
        names::check_reserved(&signature.ident, options.is_notification, errors);

        let mut reply_errors = Errors::default();
        let reply = Reply::parse(&signature.output, &mut reply_errors);
        // A `Future` that is returned by name is no second error.
        if is_callable(signature) {
            errors.append(reply_errors);
        }

        let with_attribute = |name| {
            let attributes = item.attrs.iter();
            attributes
                .filter(|attribute| attribute.path().is_ident(name))
                .cloned()
                .collect::<Vec<_>>()
        };
        let arguments = args::parse(signature.inputs.iter(), errors);
        if options.is_notification {
            for argument in &arguments {
                if let Argument::Stream(stream) = argument {
                    errors.at(
                        &stream.item,
                        "a notification is one message: take no `Streaming<T>`, \
                         or leave `#[notify]` out",
                    );
                }
            }
        }
        if reply.is_topic && !options.is_notification {
            for argument in &arguments {
                if let Argument::Stream(stream) = argument {
                    errors.at(
                        &stream.item,
                        "a subscription is made again when its connection is lost, and a stream \
                         cannot be: take no `Streaming<T>` where you return a `Topic<T>`",
                    );
                }
            }
        }
        let method = Method {
            ident: blame::generated(signature.ident.clone()),
            wire_name: WireName::of_method(&signature.ident, options.name.as_ref(), errors),
            is_notification: options.is_notification,
            is_async: signature.asyncness.is_some(),
            spawn: options.spawn,
            credit: options.credit,
            is_idempotent: options.idempotent.is_some(),
            scope: options.scope,
            pressure: options.pressure.map(|(pressure, _)| pressure),
            docs: with_attribute("doc"),
            cfgs: with_attribute("cfg"),
            deprecated: with_attribute("deprecated"),
            arguments,
            parentheses: signature.paren_token,
            reply,
        };
        if let (Some(credit), Kind::Unary | Kind::Notification) = (&method.credit, method.kind()) {
            errors.at_span(
                credit.span,
                "a credit is for streams: this method neither takes nor returns one",
            );
        }
        if let Some(Pressure::Conflate(Some(key))) = &method.pressure
            && !method.on_the_wire().any(|argument| argument.ident == *key)
        {
            errors.at(
                key,
                format!("`{}` has no argument `{key}` that is sent", signature.ident),
            );
        }
        match (options.idempotent, method.kind()) {
            (None, _) | (_, Kind::Unary) => {}
            (Some(span), Kind::Notification) => errors.at_span(
                span,
                "`idempotent` is for calls, which may be repeated when no answer has come: \
                 a notification has none",
            ),
            (Some(span), _) => errors.at_span(
                span,
                "`idempotent` is for calls, which may be repeated when no answer has come: \
                 one with a stream cannot be",
            ),
        }
        method
    }

    pub(super) fn kind(&self) -> Kind {
        let returns_stream = self.reply.stream.is_some() || self.reply.is_topic;
        match (self.taken_stream(), returns_stream) {
            _ if self.is_notification => Kind::Notification,
            (None, false) => Kind::Unary,
            (None, true) => Kind::ServerStreaming,
            (Some(_), false) => Kind::ClientStreaming,
            (Some(_), true) => Kind::Bidirectional,
        }
    }

    /// The stream that the caller sends.
    pub(super) fn taken_stream(&self) -> Option<&StreamArgument> {
        self.arguments.iter().find_map(|argument| match argument {
            Argument::Stream(argument) => Some(&**argument),
            _ => None,
        })
    }

    /// The arguments that the caller gives.
    pub(super) fn on_the_wire(&self) -> impl Iterator<Item = &WireArgument> {
        self.arguments.iter().filter_map(|argument| match argument {
            Argument::Wire(argument) => Some(&**argument),
            Argument::Context(_) | Argument::Stream(_) => None,
        })
    }

    /// What the user says of it, or that it is a method of the trait.
    pub(super) fn docs(&self, trait_ident: &Ident) -> TokenStream {
        let docs = &self.docs;
        if docs.is_empty() {
            let doc = format!("See [`{trait_ident}::{}`].", self.ident);
            quote!(#[doc = #doc])
        } else {
            quote!(#(#docs)*)
        }
    }

    /// The type of [`Method::sent_values`].
    pub(super) fn sent_type(&self, private: &TokenStream) -> TokenStream {
        let types = self
            .on_the_wire()
            .map(|argument| argument.sent_type(private));
        if self.on_the_wire().next().is_none() {
            quote!(#private::NoArguments)
        } else {
            quote!((#(#types,)*))
        }
    }

    /// The tuple that is sent.
    pub(super) fn sent_values(&self, private: &TokenStream) -> TokenStream {
        let values = self
            .on_the_wire()
            .map(|argument| argument.sent_value(private));
        if self.on_the_wire().next().is_none() {
            quote!(#private::NoArguments)
        } else {
            quote!((#(#values,)*))
        }
    }
}

fn check_signature(signature: &Signature, errors: &mut Errors) {
    if let Some(constness) = &signature.constness {
        errors.at(constness, "a method of a service cannot be `const`");
    }
    match &signature.safety {
        Safety::Unsafe(token) => errors.at(token, "a method of a service cannot be `unsafe`"),
        Safety::Safe(token) => errors.at(token, "a method of a service cannot be `safe`"),
        Safety::Default => {}
    }
    if let Some(abi) = &signature.abi {
        errors.at(abi, "a method of a service cannot be `extern`");
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(variadic, "a method of a service cannot be variadic");
    }
    for parameter in &signature.generics.params {
        let message = match parameter {
            GenericParam::Lifetime(_) => NO_LIFETIMES,
            _ => {
                "a method of a service cannot be generic: \
                 name the type, or make it a parameter of the trait"
            }
        };
        errors.at(parameter, message);
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.at(clause, "a method of a service cannot have a `where` clause");
    }
    if !is_callable(signature) {
        errors.at(
            signature.fn_token,
            "a method of a service is an `async fn`, unless it returns `impl Stream<Item = T>`: \
             write `async`, or move it to another trait",
        );
    }
    check_receiver(signature, errors);
}

/// Whether it is `async`, or returns a stream. One that is not returned rightly is reported where
/// it is.
fn is_callable(signature: &Signature) -> bool {
    signature.asyncness.is_some()
        || matches!(&signature.output, ReturnType::Type(_, ty) if stream::is_in(ty))
}

fn check_receiver(signature: &Signature, errors: &mut Errors) {
    let Some(FnArg::Receiver(receiver)) = signature.inputs.first() else {
        errors.at(
            &signature.ident,
            "a method of a service has `&self` as its first argument",
        );
        return;
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, None, None) => {}
        ReceiverKind::Reference(_, Some(lifetime), _) => errors.at(lifetime, NO_LIFETIMES),
        ReceiverKind::Reference(_, None, Some(_)) => errors.at(
            receiver,
            "many calls run at a time: take `&self`, and keep what changes in a `Mutex`",
        ),
        _ => errors.at(receiver, "a service outlives each call: take `&self`"),
    }
}
