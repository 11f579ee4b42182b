//! Asks a running agent on this host for its status.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::time::timeout;

/// A running agent answers within this time; more is a defect of it or of its host.
const PATIENCE: Duration = Duration::from_secs(5);

/// A status is never longer, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers there.
    #[error("no agent answers at {0}: {1}; is it running? --address says where else to ask")]
    Connect(SocketAddr, io::Error),
    /// Somebody answers, but not as an agent does.
    #[error("what answers at {0} is no podsonar agent: {1}")]
    NotAgent(SocketAddr, String),
    /// It took too long.
    #[error("no answer from {0} within {PATIENCE:?}")]
    Timeout(SocketAddr),
    /// This process could not even ask.
    #[error("cannot ask: {0}")]
    Start(#[from] io::Error),
}

/// The status of the agent at `address`, in words or as JSON.
///
/// # Errors
/// Why there is none.
pub fn ask(address: SocketAddr, json: bool) -> Result<String, AskError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let path = if json { "/status" } else { "/status.txt" };
    runtime.block_on(async {
        timeout(PATIENCE, get(address, path)).await.unwrap_or(Err(AskError::Timeout(address)))
    })
}

async fn get(address: SocketAddr, path: &str) -> Result<String, AskError> {
    let not_agent = |what: String| AskError::NotAgent(address, what);
    let stream = TcpStream::connect(address).await.map_err(|error| AskError::Connect(address, error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_agent(error.to_string()))?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Body::empty())
        .map_err(|error| not_agent(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| not_agent(error.to_string()))?;
    if response.status() != StatusCode::OK {
        return Err(not_agent(format!("HTTP status {}", response.status())));
    }
    let mut body = std::pin::pin!(response.into_body());
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|error| not_agent(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > LONGEST {
            return Err(not_agent("its answer is too long".into()));
        }
    }
    String::from_utf8(bytes).map_err(|_| not_agent("its answer is no text".into()))
}
