//! The administrator's requests to an API server.

use super::PORT;
use crate::error::{Doing, LabError};
use crate::host::Host;
use kube::{Client, Config};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime;
use tokio::task::JoinSet;

/// So many requests are under way at once.
const TOGETHER: usize = 16;

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Write {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

impl Write {
    /// Creates an object, given the path of its list.
    pub fn create(path: &str, object: Value) -> Self {
        Self { method: "POST", path: path.to_owned(), body: Some(object) }
    }

    /// Replaces an object, or its status, given its path.
    pub fn replace(path: &str, object: Value) -> Self {
        Self { method: "PUT", path: path.to_owned(), body: Some(object) }
    }

    /// Changes some fields of an object, or of its status (RFC 7396).
    pub fn merge(path: &str, fields: Value) -> Self {
        Self { method: "PATCH", path: path.to_owned(), body: Some(fields) }
    }

    /// Removes an object at once.
    pub fn delete(path: &str) -> Self {
        Self { method: "DELETE", path: format!("{path}?gracePeriodSeconds=0"), body: None }
    }
}

/// Whoever may do everything.
#[derive(Debug)]
pub(super) struct Admin {
    host: Host,
    address: IpAddr,
    token: String,
    authority: Mutex<Vec<u8>>,
}

impl Admin {
    pub(super) fn new(host: Host, address: IpAddr, token: String) -> Self {
        Self { host, address, token, authority: Mutex::default() }
    }

    /// Believes certificates of this authority, in PEM.
    pub(super) fn trust(&self, authority: Vec<u8>) {
        *self.authority.lock().unwrap_or_else(PoisonError::into_inner) = authority;
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, LabError> {
        self.one(Write { method: "GET", path: path.to_owned(), body: None })
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, LabError> {
        self.one(Write::create(path, body.clone()))
    }

    pub(super) fn write(&self, writes: &[Write]) -> Result<(), LabError> {
        let writes: Arc<[Write]> = writes.into();
        self.run(|client| async move {
            let next = Arc::new(AtomicUsize::new(0));
            let mut workers = JoinSet::new();
            for _ in 0..TOGETHER.min(writes.len()) {
                let (client, writes, next) = (client.clone(), Arc::clone(&writes), Arc::clone(&next));
                workers.spawn(async move {
                    while let Some(write) = writes.get(next.fetch_add(1, Ordering::Relaxed)) {
                        send(&client, write).await?;
                    }
                    Ok::<(), LabError>(())
                });
            }
            while let Some(worker) = workers.join_next().await {
                worker.map_err(std::io::Error::other).doing("write objects")??;
            }
            Ok(())
        })
    }

    fn one(&self, write: Write) -> Result<Value, LabError> {
        self.run(|client| async move {
            let text = send(&client, &write).await?;
            // `/readyz` answers in plain text.
            Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }

    /// Runs requests in the host's network.
    fn run<T: Send, F: Future<Output = Result<T, LabError>>>(
        &self,
        requests: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, LabError> {
        let client = || {
            let malformed = |text: String| LabError::Malformed { what: "access to the API server", text };
            let url = format!("https://{}:{PORT}", self.address);
            let mut config = Config::new(url.parse().map_err(|_| malformed(url.clone()))?);
            config.default_retry = false;
            config.auth_info.token = Some(self.token.clone().into());
            let authority = self.authority.lock().unwrap_or_else(PoisonError::into_inner).clone();
            config.root_cert = Some(certificates(&authority).map_err(malformed)?);
            Client::try_from(config).map_err(|error| malformed(error.to_string()))
        };
        self.host.enter(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.doing("start a runtime")?;
            runtime.block_on(async { requests(client()?).await })
        })?
    }
}

/// The certificates of a PEM file.
fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let all = pem::parse_many(text).map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(pem::Pem::into_contents).collect())
}

async fn send(client: &Client, write: &Write) -> Result<String, LabError> {
    let Write { method, path, body } = write;
    let kind = if *method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let refused = |error: String| LabError::Missing {
        what: "the API server's consent",
        hint: format!("{method} {path}: {error}"),
    };
    let body = body.as_ref().map(Value::to_string).unwrap_or_default().into_bytes();
    let request = hyper::Request::builder().method(*method).uri(path).header("content-type", kind);
    let request = request.body(body).map_err(|error| refused(error.to_string()))?;
    client.request_text(request).await.map_err(|error| refused(error.to_string()))
}
