//! One small request to a listener of this machine: what the commands that speak with a running pillion are made of.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// It is no HTTP, or it breaks off.
    #[error("{0} does not answer as pillion does")]
    Broken(SocketAddr),
    /// It takes too long.
    #[error("{0} has not answered within {1:?}")]
    Timeout(SocketAddr, Duration),
}

/// Asks `address`, and gives the status and the text of the answer.
///
/// # Errors
///
/// When there is no whole answer within `limit`.
pub async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<(StatusCode, String), AskError> {
    timeout(limit, exchange(address, method, path))
        .await
        .unwrap_or(Err(AskError::Timeout(address, limit)))
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(StatusCode, String), AskError> {
    let broken = || AskError::Broken(address);
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| AskError::Unreachable(address, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(|_| broken())?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|_| broken())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|_| broken())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|_| broken())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).trim_end().to_owned()))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

const MAX_BYTES: usize = 64 << 10;
