//! Where the user has the `wirecall` crate.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{LitStr, Path, meta::ParseNestedMeta};

/// `::wirecall`, or what the option `crate` says.
#[derive(Default)]
pub(crate) struct Facade(Option<Path>);

impl Facade {
    /// Reads `crate = path`, or `crate = "path"`, as serde has it.
    pub(crate) fn parse(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        if self.0.is_some() {
            return Err(meta.error("`crate` is given twice"));
        }
        let value = meta.value()?;
        let path = if value.peek(LitStr) {
            value.parse::<LitStr>()?.parse_with(Path::parse_mod_style)?
        } else {
            value.call(Path::parse_mod_style)?
        };
        self.0 = Some(path);
        Ok(())
    }

    /// The path of the module that all generated code uses.
    pub(crate) fn private(&self) -> TokenStream {
        match &self.0 {
            Some(path) => quote!(#path::__private),
            None => quote!(::wirecall::__private),
        }
    }
}
