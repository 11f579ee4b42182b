//! Access to the API server with the rights of the pod's service account.
//!
//! Token and certificate authority are files that the kubelet renews; kube's client reads them again each minute. After
//! a refusal for lack of a valid token, or where no connection comes about, a new client is made, which reads both at
//! once. It obeys no proxy variables and tries nothing again by itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::AuthInfo;
use kube::{Client, Config};
use podsonar_core::config::Identity;

/// Where the kubelet puts token and certificate authority.
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the API server is, and what proves who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `https://` and host and port.
    pub url: String,
    /// The file with the token.
    pub token: PathBuf,
    /// The file with the certificate authority.
    pub authority: PathBuf,
}

impl Access {
    /// What a pod has.
    pub fn of_pod(identity: &Identity) -> Self {
        let (host, port) = (&identity.api_host, identity.api_port);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let file = |name| PathBuf::from(FOLDER).join(name);
        Self { url: format!("https://{host}:{port}"), token: file("token"), authority: file("ca.crt") }
    }
}

/// How long the API server is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until it begins an answer, or has given a whole list.
    pub answer: Duration,
    /// Between two objects of a streamed list.
    pub initial: Duration,
    /// For a sign of life of a watch, before it is begun anew. Servers send a bookmark each minute or so, but none for a
    /// kind of objects of which none has changed since the server started.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { answer: seconds(15), initial: seconds(30), silence: seconds(75) }
    }
}

/// Makes clients of the API server; all who share it share the client.
#[derive(Debug, Clone)]
pub struct Api {
    access: Arc<Access>,
    patience: Patience,
    client: Arc<Mutex<Option<SharedClient>>>,
}

/// kube's client says nothing of itself.
#[derive(Clone)]
struct SharedClient(Client);

impl std::fmt::Debug for SharedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address makes no URL.
    #[error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no URL: {0}")]
    Url(String),
    /// The token or the certificate authority cannot be read or used.
    #[error("the service account's files in {FOLDER} are of no use: {0}")]
    Client(#[from] kube::Error),
}

impl Api {
    /// Nothing is read or sent yet.
    pub fn new(access: Access, patience: Patience) -> Self {
        Self { access: Arc::new(access), patience, client: Arc::default() }
    }

    /// How long the server is waited for.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// A client, made now if there is none. It needs a Tokio runtime.
    ///
    /// # Errors
    /// What keeps one from being made.
    pub fn client(&self) -> Result<Client, ApiError> {
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(SharedClient(client)) = &*known {
            return Ok(client.clone());
        }
        let client = self.make()?;
        *known = Some(SharedClient(client.clone()));
        Ok(client)
    }

    /// Makes the next call of [`Api::client`] read token and authority again and use new connections.
    pub fn renew(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn make(&self) -> Result<Client, ApiError> {
        let access = &self.access;
        let url = access.url.parse().map_err(|_| ApiError::Url(access.url.clone()))?;
        let mut config = Config::new(url);
        let token_file = Some(access.token.display().to_string());
        config.auth_info = AuthInfo { token_file, ..AuthInfo::default() };
        config.root_cert_file = Some(access.authority.clone());
        // The file alone says whom to trust. Without this list, which it replaces, kube looks for the authorities of the
        // system first, and an image without any has no client.
        config.root_cert = Some(Vec::new());
        config.connect_timeout = Some(CONNECT);
        config.proxy_url = None;
        // Whoever asks decides when to ask again.
        config.default_retry = false;
        Ok(ClientBuilder::try_from(config)?.build())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_ipv6_address_of_the_api_server_is_bracketed() {
        let mut identity = Identity {
            api_host: "fd00:10::1".into(),
            api_port: 443,
            node: Arc::from("node"),
            pod: Arc::default(),
            namespace: Arc::default(),
            uid: Arc::default(),
            pod_ips: Vec::new(),
            host_ips: Vec::new(),
        };
        assert_eq!(Access::of_pod(&identity).url, "https://[fd00:10::1]:443");
        identity.api_host = "10.96.0.1".into();
        assert_eq!(Access::of_pod(&identity).url, "https://10.96.0.1:443");
    }
}
