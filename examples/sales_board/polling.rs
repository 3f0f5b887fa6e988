//! How boards would do it without a push: a request each second, over HTTP/1.1, as cheaply as that
//! allows. The connection is kept, no header is sent that is not needed, and the answer has no body
//! when nothing has changed (RFC 9110 §13.1.2).

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::interval,
};

use super::{
    Failure,
    board::Board,
    contract::{Figure, reports},
    headquarters::Headquarters,
    relay::Relay,
    tally::total_bytes,
};

pub const EVERY: Duration = Duration::from_secs(1);

/// Answers `GET /figures` on a free port.
pub async fn serve(headquarters: Headquarters) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let headquarters = headquarters.clone();
            let answer = service_fn(move |request| {
                let answer = answer(&headquarters, &request);
                async { answer.map_err(|never: Infallible| never) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(address)
}

fn answer(
    headquarters: &Headquarters,
    request: &Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let figures = headquarters.all();
    let version = format!("\"{}\"", reports(&figures));
    let known = request.headers().get(header::IF_NONE_MATCH);
    let mut response = Response::default();
    if known.is_some_and(|known| known == &*version) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let figures: Vec<_> = figures.into_values().collect();
        let body = serde_json::to_vec(&figures).expect("figures are JSON");
        *response.body_mut() = body.into();
    }
    let version = version.parse().expect("digits can stand in a header");
    response.headers_mut().insert(header::ETAG, version);
    Ok(response)
}

/// Shows what it asks for.
pub async fn poll(board: Arc<Board>, address: SocketAddr) -> Result<(), Failure> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let mut version = String::new();
    let mut ticks = interval(EVERY);
    loop {
        ticks.tick().await;
        board.messages.fetch_add(1, Ordering::Relaxed);
        for figure in get(&mut stream, address, &mut version).await? {
            board.show(figure);
        }
    }
}

/// How many bytes a request and its answer have when nothing has changed.
pub async fn cost_of_no_change(endpoint: SocketAddr) -> Result<u64, Failure> {
    let relay = Relay::start(endpoint).await;
    let mut stream = BufReader::new(TcpStream::connect(relay.addr()).await?);
    let mut version = String::new();
    get(&mut stream, relay.addr(), &mut version).await?;
    let before = total_bytes(&relay);
    get(&mut stream, relay.addr(), &mut version).await?;
    Ok(total_bytes(&relay) - before)
}

/// One request: the figures, or nothing if `version` is still that of the last answer.
async fn get(
    stream: &mut BufReader<TcpStream>,
    host: SocketAddr,
    version: &mut String,
) -> Result<Vec<Figure>, Failure> {
    let mut request = format!("GET /figures HTTP/1.1\r\nhost: {host}\r\n");
    if !version.is_empty() {
        request += &format!("if-none-match: {version}\r\n");
    }
    request += "\r\n";
    stream.get_mut().write_all(request.as_bytes()).await?;

    let mut status = String::new();
    stream.read_line(&mut status).await?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err("the endpoint has hung up".into());
        }
        match line.trim_end().split_once(": ") {
            Some(("etag", value)) => *version = value.to_owned(),
            Some(("content-length", value)) => length = value.parse()?,
            Some(_) => {}
            None => break,
        }
    }
    match status.trim_end() {
        "HTTP/1.1 200 OK" => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            Ok(serde_json::from_slice(&body)?)
        }
        "HTTP/1.1 304 Not Modified" => Ok(Vec::new()),
        other => Err(format!("answered with {other}").into()),
    }
}
