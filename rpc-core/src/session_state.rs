//! What an application keeps with a session: values of its own types.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::connection::Shared;

/// What the application keeps with a session: one value of each type that it likes.
///
/// ```
/// use std::sync::Mutex;
/// use wirecall_core::Context;
///
/// #[derive(Default)]
/// struct Cart(Mutex<Vec<String>>);
///
/// fn add(cx: &Context, article: &str) -> usize {
///     let cart = cx.state().get_or_default::<Cart>();
///     let mut articles = cart.0.lock().unwrap();
///     articles.push(article.to_owned());
///     articles.len()
/// }
/// ```
///
/// It lives as long as the session, whatever becomes of the connection: from before the first call
/// until the session has ended, and [`SessionHooks::ended`] with it. Then it is dropped, and nothing
/// is kept any more. Whoever holds a value in an [`Arc`] may hold it for longer.
///
/// Values are shared by all handlers of the session: what they change stands behind a lock of their
/// own. None of their code runs under a lock of the session. A session that keeps nothing has no
/// memory for it.
///
/// [`SessionHooks::ended`]: https://docs.rs/wirecall/latest/wirecall/trait.SessionHooks.html
#[derive(Clone)]
pub struct SessionState(Arc<Shared>);

/// The values of one session by their types. Boxed when there is a first one.
#[derive(Default)]
pub(crate) struct Values {
    kept: Option<Box<Kept>>,
    /// The session is over: nothing is kept any more.
    has_ended: bool,
}

type Kept = BTreeMap<TypeId, Value>;

type Value = Arc<dyn Any + Send + Sync>;

impl SessionState {
    pub(crate) fn new(session: Arc<Shared>) -> Self {
        SessionState(session)
    }

    /// The value of this type, if there is one.
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let value = self.0.lock().values.get::<T>();
        typed(value)
    }

    /// The value of this type. Without one, `make` makes it. Where several do that at a time each may
    /// make one, and all get the same.
    ///
    /// After the end of the session the value is made, and not kept.
    pub fn get_or_insert_with<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(value) = self.get() {
            return value;
        }
        let made = Arc::new(make());
        let earlier = self.0.lock().values.get_or_keep::<T>(made.clone());
        typed(earlier).unwrap_or(made)
    }

    /// Like [`SessionState::get_or_insert_with`], with what the type has by default.
    pub fn get_or_default<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        self.get_or_insert_with(T::default)
    }

    /// Keeps a value, and returns the one of its type that was kept before. After the end of the
    /// session the value is dropped.
    pub fn insert<T: Any + Send + Sync>(&self, value: T) -> Option<Arc<T>> {
        let value: Value = Arc::new(value);
        // Until the lock is released, it is held here as well: what is refused is dropped behind it.
        let previous = self.0.lock().values.keep::<T>(value.clone());
        typed(previous)
    }

    /// Takes the value of this type out, if there is one.
    pub fn remove<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let value = self.0.lock().values.take::<T>();
        typed(value)
    }
}

impl Values {
    fn get<T: Any>(&self) -> Option<Value> {
        let kept = self.kept.as_ref()?;
        kept.get(&TypeId::of::<T>()).cloned()
    }

    fn keep<T: Any>(&mut self, value: Value) -> Option<Value> {
        if self.has_ended {
            return None;
        }
        let kept = self.kept.get_or_insert_default();
        kept.insert(TypeId::of::<T>(), value)
    }

    fn get_or_keep<T: Any>(&mut self, value: Value) -> Option<Value> {
        let earlier = self.get::<T>();
        if earlier.is_none() {
            self.keep::<T>(value);
        }
        earlier
    }

    fn take<T: Any>(&mut self) -> Option<Value> {
        let kept = self.kept.as_mut()?;
        let value = kept.remove(&TypeId::of::<T>());
        if kept.is_empty() {
            self.kept = None;
        }
        value
    }
}

/// Drops what was kept with a session that is over. Nothing is kept there any more.
pub(crate) fn end(session: &Shared) {
    let mut state = session.lock();
    state.values.has_ended = true;
    let kept = state.values.kept.take();
    drop(state);
    drop_each(kept);
}

/// Without a lock, and so that the panic of one takes no other with it.
fn drop_each(kept: Option<Box<Kept>>) {
    for value in kept.into_iter().flat_map(|kept| kept.into_values()) {
        // It was reported by the panic hook.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
}

/// What is found under a type is of that type.
fn typed<T: Any + Send + Sync>(value: Option<Value>) -> Option<Arc<T>> {
    value?.downcast().ok()
}

/// How many values there are.
impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self
            .0
            .lock()
            .values
            .kept
            .as_ref()
            .map_or(0, |kept| kept.len());
        f.debug_struct("SessionState")
            .field("values", &kept)
            .finish()
    }
}
