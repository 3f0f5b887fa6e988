//! A kitchen and a table, over one WebSocket: `cargo run --example quickstart`.
//!
//! One process, but a real socket on the loopback interface. The table orders from the kitchen, the
//! kitchen rings its bell whenever it likes, and asks back where an order is not clear.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use wirecall::{CallError, Client, Context, RpcError, Server};

/// What the kitchen does for its guests.
#[wirecall::service]
pub trait Kitchen {
    /// Cooks a dish, and answers when it is ready.
    async fn cook(&self, cx: &Context, dish: &str) -> Result<String, KitchenError>;
}

/// What a table does for the kitchen: this one is implemented by the client.
#[wirecall::service]
pub trait Table {
    /// The kitchen rings its bell. One-way: nobody waits for an answer.
    #[notify]
    async fn bell(&self, message: &str);

    /// The kitchen has a question.
    async fn ask(&self, question: &str) -> String;
}

/// Why an order cannot be cooked. It travels as it is.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error, RpcError)]
pub enum KitchenError {
    #[error("{dish} is not on the menu, how about {instead}?")]
    #[rpc(code = NOT_FOUND)]
    NotOnTheMenu { dish: String, instead: String },
}

struct Cook;

impl Kitchen for Cook {
    async fn cook(&self, cx: &Context, dish: &str) -> Result<String, KitchenError> {
        let table = TableClient::new(cx);
        match dish {
            "stew" => {
                sleep(Duration::from_millis(300)).await;
                Ok("a stew".to_owned())
            }
            "salad" => {
                // The table does not wait for this, and did not ask for it.
                let _ = table.bell("fresh bread for everyone").await;
                Ok("a salad".to_owned())
            }
            "steak" => {
                // A call to the caller, while its own call is open, on the same connection.
                let answer = table.ask("how would you like the steak?").await;
                Ok(format!("a steak, {}", answer.unwrap_or_default()))
            }
            dish => Err(KitchenError::NotOnTheMenu {
                dish: dish.to_owned(),
                instead: "stew".to_owned(),
            }),
        }
    }
}

struct Guests;

impl Table for Guests {
    async fn bell(&self, message: &str) {
        println!("  the kitchen's bell: {message}");
    }

    async fn ask(&self, question: &str) -> String {
        println!("  the kitchen asks: {question}");
        "medium rare".to_owned()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .service(KitchenServer::new(Cook))
        .bind("127.0.0.1:0")
        .await?;
    let url = format!("ws://{}", server.local_addr()?);
    tokio::spawn(server.run());

    let client = Client::builder(&url)
        .serve(TableServer::new(Guests))
        .connect()
        .await?;
    let kitchen = KitchenClient::new(&client);
    println!("connected to {url}");

    println!("two orders at once, the slow one first:");
    let slow = async {
        let dish = kitchen.cook("stew").await?;
        println!("  served: {dish}");
        Ok::<_, CallError<KitchenError>>(())
    };
    let fast = async {
        let dish = kitchen.cook("salad").await?;
        println!("  served: {dish}");
        Ok(())
    };
    tokio::try_join!(slow, fast)?;

    println!("an order that the kitchen has a question about:");
    println!("  served: {}", kitchen.cook("steak").await?);

    println!("an order that cannot be cooked:");
    match kitchen.cook("unicorn").await {
        Err(CallError::Method(KitchenError::NotOnTheMenu { dish, instead })) => {
            println!("  no {dish}; taking {instead} instead");
            println!("  served: {}", kitchen.cook(&instead).await?);
        }
        other => println!("  unexpected: {other:?}"),
    }

    client.close().await;
    Ok(())
}
