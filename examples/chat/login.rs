//! Who may come in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use wirecall::{AuthError, AuthRequest, Authenticator, Identity, async_trait};

/// As many names are given away.
const MAX_NAMES: usize = 10_000;

/// Names and their passwords. A name that nobody has is that of the first who comes with it.
///
/// They are in memory, to be tried out. A real server has them in a database, with passwords hashed by
/// something slow such as Argon2; or somebody else has them, and issues signed tokens, as in the
/// example `signed_tokens`. For a few fixed ones there is `StaticTokens`.
#[derive(Default)]
pub struct Names(Mutex<HashMap<String, String>>);

#[async_trait]
impl Authenticator for Names {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
        let login = request.token().and_then(|token| token.split_once(':'));
        let (name, password) = login.ok_or_else(AuthError::refused)?;
        if !is_name(name) {
            return refused("a name has 1 to 32 letters and digits");
        }
        if password.len() > 64 {
            return refused("a password has 64 bytes at the most");
        }
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get(name) {
            Some(own) if own != password => return refused("wrong password"),
            Some(_) => {}
            None if names.len() == MAX_NAMES => return refused("all names are taken"),
            None => {
                names.insert(name.to_owned(), password.to_owned());
            }
        }
        Ok(Identity::new(name))
    }
}

fn refused(why: &'static str) -> Result<Identity, AuthError> {
    Err(AuthError::Refused(why.into()))
}

/// Whether it can be the name of a user or a room.
pub fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.chars().count()) && text.chars().all(char::is_alphanumeric)
}
