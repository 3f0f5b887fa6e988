//! Names of methods, and the aliases that stand for them on the wire.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use crate::{body::Codec, pressure::Pressure, protocol::MethodRef};

/// How many aliases there are in a process, and at most on a connection.
pub const MAX_ALIASES: usize = 1024;

/// A method as a caller names it: `Service.method`, with its alias.
///
/// Aliases are numbered once for the whole process, so that a notification to many peers is the
/// same bytes for all of them. The first [`MAX_ALIASES`] names get one.
#[derive(Clone, PartialEq, Eq)]
pub struct Method {
    name: Arc<str>,
    alias: Option<u16>,
    is_idempotent: bool,
    pressure: Pressure,
}

/// A method as the macro names it in a stub's table.
#[derive(Clone, Copy, Debug)]
pub struct StubMethod {
    name: &'static str,
    is_idempotent: bool,
    pressure: Pressure,
}

impl StubMethod {
    /// A method under its name on the wire, without the service's.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        StubMethod {
            name,
            is_idempotent: false,
            pressure: Pressure::Wait,
        }
    }

    /// To execute a call of it a second time does no more than to execute it once.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// What becomes of its notifications to a peer that is behind.
    #[must_use]
    pub const fn pressure(mut self, pressure: Pressure) -> Self {
        self.pressure = pressure;
        self
    }
}

impl Method {
    /// The method `method` of the service `service`.
    #[must_use]
    pub fn new(service: &str, method: &str) -> Self {
        static ALIASES: LazyLock<Mutex<HashMap<Arc<str>, u16>>> = LazyLock::new(Mutex::default);

        let name: Arc<str> = format!("{service}.{method}").into();
        let mut aliases = ALIASES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, alias)) = aliases.get_key_value(&name) {
            return Method {
                name: name.clone(),
                alias: Some(*alias),
                is_idempotent: false,
                pressure: Pressure::Wait,
            };
        }
        let alias = (aliases.len() < MAX_ALIASES).then_some(aliases.len() as u16);
        if let Some(alias) = alias {
            aliases.insert(name.clone(), alias);
        }
        Method {
            name,
            alias,
            is_idempotent: false,
            pressure: Pressure::Wait,
        }
    }

    /// `Service.method`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether to execute a call of it a second time does no more than to execute it once, as
    /// `#[rpc(idempotent)]` says.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// What becomes of a notification of it to a peer that is behind, as `#[notify(…)]` says.
    #[must_use]
    #[inline]
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    #[inline]
    pub(crate) fn alias(&self) -> Option<u16> {
        self.alias
    }

    /// How frames in this codec name the method: by its alias, or by its name, which people can
    /// read in JSON.
    #[inline]
    pub(crate) fn reference(&self, codec: Codec) -> MethodRef<'_> {
        match (codec, self.alias) {
            (Codec::MessagePack, Some(alias)) => MethodRef::Alias(u64::from(alias)),
            _ => MethodRef::Name(Cow::Borrowed(&self.name)),
        }
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({})", self.name)
    }
}

/// The methods of one service, in the order of its trait: what a stub holds.
#[derive(Clone, Debug)]
pub struct Methods(Table);

#[derive(Clone, Debug)]
enum Table {
    Static(&'static [Method]),
    Named(Arc<[Method]>),
}

impl Methods {
    /// The methods of a service under its own name, made once.
    #[must_use]
    pub fn from_static(methods: &'static [Method]) -> Self {
        Methods(Table::Static(methods))
    }

    /// The methods of a service.
    #[must_use]
    pub fn new(service: &str, methods: &[StubMethod]) -> Self {
        Methods(Table::Named(Self::table(service, methods)))
    }

    /// For the static behind [`Methods::from_static`].
    #[must_use]
    pub fn table(service: &str, methods: &[StubMethod]) -> Arc<[Method]> {
        methods
            .iter()
            .map(|method| Method {
                is_idempotent: method.is_idempotent,
                pressure: method.pressure,
                ..Method::new(service, method.name)
            })
            .collect()
    }

    /// The method at this place in the trait.
    ///
    /// # Panics
    /// When there is none: stubs are generated together with their tables.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> &Method {
        match &self.0 {
            Table::Static(methods) => &methods[index],
            Table::Named(methods) => &methods[index],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_knows_which_of_its_methods_are_idempotent() {
        const METHODS: &[StubMethod] = &[
            StubMethod::new("post"),
            StubMethod::new("count").idempotent(),
        ];
        let methods = Methods::new("Chat", METHODS);
        assert_eq!(methods.get(1).name(), "Chat.count");
        let are_idempotent = [0, 1].map(|index| methods.get(index).is_idempotent());
        assert_eq!(are_idempotent, [false, true]);
    }
}
