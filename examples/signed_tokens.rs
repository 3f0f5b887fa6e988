//! A server that lets in who has a signed token (JWT): `cargo run --example signed_tokens`.
//!
//! Tokens say who somebody is, what they may do, and until when. They are good for two seconds here,
//! and the client gets a new one each time before its own runs out: the connection stays, and calls
//! go on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use wirecall::{
    AuthError, AuthRequest, Authenticator, CallError, Client, ConnectError, Context, Identity,
    Server, Status, async_trait,
};

#[wirecall::service]
trait Archive {
    /// Says who the caller is.
    async fn whoami(&self, cx: &Context) -> Option<String>;
    /// Takes the scope `archive.write`.
    #[rpc(scope = "archive.write")]
    async fn file(&self, cx: &Context, paper: &str) -> String;
}

struct Shelves;

impl Archive for Shelves {
    async fn whoami(&self, cx: &Context) -> Option<String> {
        let identity = cx.identity()?;
        let claims: &Claims = identity.claims()?;
        Some(format!("{} of {}", identity.user(), claims.office))
    }

    async fn file(&self, cx: &Context, paper: &str) -> String {
        let user = cx.identity().map(|own| own.user().to_owned());
        format!("{paper}, filed by {}", user.unwrap_or_default())
    }
}

/// What stands in a token.
#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    sub: String,
    office: String,
    scope: String,
    /// In seconds since 1970 (RFC 7519 §4.1.4).
    exp: u64,
}

/// The server's side: looks at the signature and the time, and at nothing else that is not signed.
struct SignedTokens {
    key: DecodingKey,
    validation: Validation,
}

impl SignedTokens {
    fn new(secret: &[u8]) -> Self {
        // HS256, and no other algorithm, whatever a token says of itself.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        SignedTokens {
            key: DecodingKey::from_secret(secret),
            validation,
        }
    }
}

#[async_trait]
impl Authenticator for SignedTokens {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
        let token = request.token().ok_or_else(AuthError::refused)?;
        let decoded = decode::<Claims>(token, &self.key, &self.validation);
        // Why a token is not good is nobody's business who has made one up.
        let claims = decoded.map_err(|_| AuthError::refused())?.claims;
        Ok(Identity::new(&*claims.sub)
            .with_scopes(claims.scope.split_whitespace())
            .with_expiry(UNIX_EPOCH + Duration::from_secs(claims.exp))
            .with_claims(claims))
    }
}

/// Stands for the place where people log in, which is not part of this program as a rule.
fn issue(secret: &[u8], user: &str, scope: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let claims = Claims {
        sub: user.to_owned(),
        office: "Lisbon".to_owned(),
        scope: scope.to_owned(),
        exp: now.unwrap_or_default().as_secs() + 2,
    };
    let key = EncodingKey::from_secret(secret);
    encode(&Header::default(), &claims, &key).expect("claims are JSON")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A real one is drawn at random, and kept where nobody reads it.
    let secret = b"not a secret, since it stands in an example";
    let server = Server::builder()
        .service(ArchiveServer::new(Shelves))
        .authenticator(SignedTokens::new(secret))
        .bind("127.0.0.1:0")
        .await?;
    let url = format!("ws://{}", server.local_addr()?);
    tokio::spawn(server.run());

    let ines = Client::builder(&*url)
        .refresh_token(|| async {
            println!("a new token for ines");
            Ok(issue(secret, "ines", "archive.read archive.write"))
        })
        .connect()
        .await?;
    let archive = ArchiveClient::new(&ines);
    println!("welcome, {}", archive.whoami().await?.unwrap_or_default());
    // Longer than any token is good for.
    for paper in ["a letter", "a bill", "a map", "a will"] {
        println!("{}", archive.file(paper).await?);
        sleep(Duration::from_secs(1)).await;
    }
    ines.close().await;

    let rui = Client::builder(&*url)
        .token(issue(secret, "rui", "archive.read"))
        .connect()
        .await?;
    match ArchiveClient::new(&rui).file("a poem").await {
        Err(CallError::Status(status)) => refused(&status),
        other => println!("rui should not have been let: {other:?}"),
    }

    let forged = issue(b"somebody else's", "ines", "archive.write");
    match Client::builder(&*url).token(forged).connect().await {
        Err(ConnectError::Closed(reason)) => println!("not let in: {reason}"),
        other => println!("a forged token should not be let in: {other:?}"),
    }
    Ok(())
}

fn refused(status: &Status) {
    println!("rui is refused: {status}");
}
