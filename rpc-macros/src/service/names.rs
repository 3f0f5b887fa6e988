//! Which names can travel.

use proc_macro2::Span;
use syn::Ident;

use crate::errors::Errors;

const MAX_BYTES: usize = 64;

/// Checks the name of a service. `.` separates it from the method's.
pub(super) fn check_service(name: &str, span: Span, errors: &mut Errors) {
    if name.contains('.') {
        errors.at_span(span, "the name of a service cannot contain `.`");
    }
    check(name, span, errors);
}

pub(super) fn check_method(name: &str, span: Span, errors: &mut Errors) {
    check(name, span, errors);
}

fn check(name: &str, span: Span, errors: &mut Errors) {
    if name.is_empty() {
        errors.at_span(span, "a name on the wire cannot be empty");
    } else if name.len() > MAX_BYTES {
        errors.at_span(
            span,
            format!("a name on the wire has at most {MAX_BYTES} bytes"),
        );
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        errors.at_span(
            span,
            "a name on the wire is printable ASCII without blanks: \
             give one with `name = \"…\"`",
        );
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
