//! A question over a TCP connection of its own (RFC 7766): each message has its length in front.

use std::io;
use std::net::{IpAddr, SocketAddr};

use podsonar_core::query::QueryResult;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant as Deadline, timeout_at};

use super::message::{Asked, Question, Reading};

/// So many messages that answer something else are passed over.
const MAX_MESSAGES: u32 = 16;

/// Asks the server; at the latest at the deadline there is a result.
pub(super) async fn ask(
    server: SocketAddr,
    question: &Question,
    edns: bool,
    deadline: Deadline,
) -> (QueryResult, Vec<IpAddr>) {
    let Some((id, bytes)) = question.encode(edns) else { return (QueryResult::NotSent, Vec::new()) };
    let asked = Asked { question, id, edns };
    let connected = match timeout_at(deadline, TcpStream::connect(server)).await {
        Err(_) => return (QueryResult::Timeout, Vec::new()),
        Ok(Err(error)) => return (not_connected(&error), Vec::new()),
        Ok(Ok(connected)) => connected,
    };
    match timeout_at(deadline, converse(connected, asked, &bytes)).await {
        Err(_) => (QueryResult::Timeout, Vec::new()),
        Ok(Err(error)) => (broken_off(&error), Vec::new()),
        Ok(Ok(answer)) => answer,
    }
}

async fn converse(
    mut stream: TcpStream,
    asked: Asked<'_>,
    question: &[u8],
) -> io::Result<(QueryResult, Vec<IpAddr>)> {
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut message = Vec::new();
    for _ in 0..MAX_MESSAGES {
        let length = stream.read_u16().await?;
        message.resize(length.into(), 0);
        stream.read_exact(&mut message).await?;
        match asked.read(&message) {
            Reading::Ignored(_) => {}
            Reading::Answer(result, addresses) => return Ok((result, addresses)),
            Reading::EdnsRefused => return Ok((QueryResult::OtherRcode, Vec::new())),
            // There is nothing longer to ask for.
            Reading::Truncated => break,
        }
    }
    Ok((QueryResult::Malformed, Vec::new()))
}

fn not_connected(error: &io::Error) -> QueryResult {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::AddrNotAvailable => QueryResult::NotSent,
        io::ErrorKind::TimedOut => QueryResult::Timeout,
        _ => QueryResult::Unreachable,
    }
}

/// A connection that ends before the answer did: closed by the server, or torn down.
fn broken_off(error: &io::Error) -> QueryResult {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => QueryResult::Malformed,
        io::ErrorKind::TimedOut => QueryResult::Timeout,
        _ => QueryResult::Unreachable,
    }
}
