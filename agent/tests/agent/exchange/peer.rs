//! Peers as they should not be: servers that play what they are told to whoever asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a peer answers.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then the same others again and again, so often.
    Repeat(Vec<u8>, Vec<u8>, u64),
    /// These bytes one by one, with a pause after each.
    Trickle(Vec<u8>, Duration),
    /// These bytes, then nothing more.
    Stall(Vec<u8>),
}

/// A peer that plays a script. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Hostile {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicU64>,
    /// Bytes that somebody, or at least the kernel, took.
    pub(crate) sent: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Hostile {
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub(crate) async fn start_at(address: &str, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counted, taken) = (Arc::clone(&connections), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Relaxed);
                tokio::spawn(play(stream, script.clone(), Arc::clone(&taken)));
            }
        });
        Self { address, connections, sent, task }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request, then plays the script until it ends or nobody listens.
async fn play(mut stream: TcpStream, script: Script, sent: Arc<AtomicU64>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let mut write = async |bytes: &[u8]| {
        sent.fetch_add(bytes.len() as u64, Relaxed);
        stream.write_all(bytes).await
    };
    // An error is the end of whoever asked.
    let _ = match script {
        Script::Bytes(bytes) => write(&bytes).await,
        Script::Repeat(head, again, times) => {
            let mut result = write(&head).await;
            let mut left = times;
            while result.is_ok() && left > 0 {
                result = write(&again).await;
                left -= 1;
            }
            result
        }
        Script::Trickle(bytes, pause) => {
            let (mut result, mut left) = (Ok(()), bytes.iter());
            while let (Ok(()), Some(byte)) = (&result, left.next()) {
                result = write(&[*byte]).await;
                tokio::time::sleep(pause).await;
            }
            result
        }
        Script::Stall(bytes) => {
            let result = write(&bytes).await;
            // Ends when the asker goes.
            let _ = stream.read_u8().await;
            result
        }
    };
}

/// An answer with this body, as an agent would send it.
pub(crate) fn answer(body: &[u8]) -> Vec<u8> {
    answer_with("content-type: application/json\r\n", body)
}

/// An answer with further header fields.
pub(crate) fn answer_with(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\npodsonar-clock: 60000\r\npodsonar-watch-age: 0\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A list of node `b`.
pub(crate) fn list(pods: &str) -> String {
    format!("{{\"version\":1,\"node\":\"b\",\"zone\":\"z\",\"epoch\":\"7\",\"pods\":[{pods}]}}")
}

pub(crate) fn pod(uid: &str, ip: &str) -> String {
    format!("{{\"uid\":\"{uid}\",\"namespace\":\"d\",\"name\":\"{uid}\",\"ips\":[\"{ip}\"]}}")
}
