//! Which names can travel.

use proc_macro2::Span;
use syn::{Ident, LitStr, ext::IdentExt as _};

use crate::errors::Errors;

const MAX_BYTES: usize = 64;

/// What a service or a method is called on the wire.
pub(super) struct WireName {
    pub(super) text: String,
    /// Where it comes from.
    pub(super) span: Span,
}

impl WireName {
    /// The name of a service, as the option `name` gives it or as that of its trait.
    pub(super) fn of_service(ident: &Ident, option: Option<&LitStr>, errors: &mut Errors) -> Self {
        let name = WireName::new(ident, option);
        if name.text.contains('.') {
            errors.at_span(
                name.span,
                "`.` stands between the names of service and method: it cannot be in the first",
            );
        }
        name.check("#[service(name = \"…\")]", option.is_some(), errors);
        name
    }

    /// The name of a method, as the option `name` gives it or as the trait has it.
    pub(super) fn of_method(ident: &Ident, option: Option<&LitStr>, errors: &mut Errors) -> Self {
        let name = WireName::new(ident, option);
        name.check("#[rpc(name = \"…\")]", option.is_some(), errors);
        name
    }

    fn new(ident: &Ident, option: Option<&LitStr>) -> Self {
        match option {
            Some(literal) => WireName {
                text: literal.value(),
                span: literal.span(),
            },
            None => WireName {
                text: ident.unraw().to_string(),
                span: ident.span(),
            },
        }
    }

    fn check(&self, option: &str, is_given: bool, errors: &mut Errors) {
        let fault = if self.text.is_empty() {
            "a name on the wire cannot be empty".to_owned()
        } else if self.text.len() > MAX_BYTES {
            format!("a name on the wire has at most {MAX_BYTES} bytes")
        } else if !self.text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "a name on the wire is printable ASCII without blanks".to_owned()
        } else {
            return;
        };
        if is_given {
            errors.at_span(self.span, fault);
        } else {
            errors.at_span(self.span, format!("{fault}: give another with `{option}`"));
        }
    }
}

/// Checks that a method leaves the stubs' own methods alone.
pub(super) fn check_reserved(method: &Ident, is_notification: bool, errors: &mut Errors) {
    let taken_by = match method.to_string().as_str() {
        "new" | "named" | "peer" | "NAME" => "client",
        "to" if is_notification => "notifier",
        _ => return,
    };
    errors.at(
        method,
        format!(
            "every {taken_by} has a `{method}` of its own: name the method otherwise, \
             and keep its name on the wire with `#[rpc(name = \"{method}\")]`"
        ),
    );
}
