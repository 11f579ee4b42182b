//! [`ApiServer`]: a real kube-apiserver on a real etcd, without kubelets or controllers: objects are what a test writes,
//! status included. Rights are by RBAC, tokens of service accounts are the server's own.

mod admin;
pub mod objects;
mod pod;

use super::folder;
use crate::clock::{soon, wait_until};
use crate::error::{Doing, LabError};
use crate::host::Host;
use crate::process::Process;
use crate::tool;
use admin::Admin;
use serde_json::{Value, json};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

pub use admin::Write;

/// The port of the API server.
pub const PORT: u16 = 6443;

/// The namespace and the name of the agents' service account and Service.
pub const NAMESPACE: &str = "podsonar";

/// The administrator's token.
const ADMIN: &str = "lab-administrator";

/// How the server is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether it streams lists; older servers refuse to.
    pub streams_lists: bool,
    /// Whether its etcd is Debian 12's, with which it cannot stream lists and only says so when it is asked to.
    pub old_etcd: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { streams_lists: true, old_etcd: false }
    }
}

/// A running API server. Dropping it kills it and etcd.
#[derive(Debug)]
pub struct ApiServer {
    host: Host,
    address: IpAddr,
    folder: PathBuf,
    settings: Settings,
    server: Option<Process>,
    admin: Admin,
    _etcd: Process,
}

impl ApiServer {
    /// Starts both in a host, serving on one of its addresses, and waits until the server is ready. Then the agents'
    /// namespace and service account are there, the latter without rights; see [`ApiServer::grant`].
    pub fn start(host: &Host, address: IpAddr, settings: Settings) -> Result<Self, LabError> {
        let folder = folder(host, "apiserver")?;
        let file = |name: &str| folder.join(name);
        let key = rcgen::KeyPair::generate()
            .map_err(|error| LabError::Malformed { what: "a key", text: error.to_string() })?;
        host.write_file(&file("accounts.key"), key.serialize_pem().as_bytes(), 0o600)?;
        host.write_file(&file("accounts.pub"), key.public_key_pem().as_bytes(), 0o600)?;
        let tokens = format!("{ADMIN},administrator,1,\"system:masters\"\n");
        host.write_file(&file("tokens.csv"), tokens.as_bytes(), 0o600)?;
        let etcd = host.spawn(etcd(&folder, settings)?)?;
        let mut server = Self {
            host: host.clone(),
            address,
            settings,
            server: None,
            admin: Admin::new(host.clone(), address, ADMIN.to_owned()),
            folder,
            _etcd: etcd,
        };
        server.start_again()?;
        server.write(&[
            Write::create("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}})),
            Write::create("/api/v1/namespaces", json!({"metadata": {"name": objects::PODS}})),
        ])?;
        server.make_account()?;
        Ok(server)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{}:{PORT}", self.address)
    }

    /// The certificate authority that proves it, as text.
    pub fn authority(&self) -> Result<Vec<u8>, LabError> {
        self.host.read_file(&self.folder.join("certificates/apiserver.crt"))
    }

    /// The process.
    ///
    /// # Errors
    /// [`LabError::Missing`] while it is killed.
    pub fn process(&self) -> Result<&Process, LabError> {
        let hint = || "it was killed".to_owned();
        self.server.as_ref().ok_or_else(|| LabError::Missing { what: "the API server", hint: hint() })
    }

    /// Kills the server. etcd keeps what was written.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts the server after [`ApiServer::kill`], and waits until it is ready.
    pub fn start_again(&mut self) -> Result<(), LabError> {
        let mut process = self.host.spawn(self.command()?)?;
        let certificate = self.folder.join("certificates/apiserver.crt");
        wait_until(soon(), "the API server to be ready", || {
            process.must_run()?;
            let Ok(authority) = self.host.read_file(&certificate) else { return Ok(None) };
            self.admin.trust(authority);
            // Nobody listens yet, or not yet ready: both are answers to be asked for again.
            Ok(self.admin.get("/readyz").ok().map(drop))
        })?;
        self.server = Some(process);
        Ok(())
    }

    /// Makes etcd forget all versions of objects but the newest.
    pub fn compact(&self) -> Result<(), LabError> {
        let doing = "compact etcd";
        let ask = |path: &str, body: &Value| -> Result<Value, LabError> {
            let text = self.host.enter(|| post_to_etcd(path, body))?.doing(doing)?;
            let json = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let malformed = |_| LabError::Malformed { what: "an answer of etcd", text: text.clone() };
            serde_json::from_str(json).map_err(malformed)
        };
        // Any question is answered with the revision; the key is that of one zero byte.
        let answer = ask("/v3/kv/range", &json!({"key": "AA=="}))?;
        let revision = answer.pointer("/header/revision").and_then(Value::as_str).unwrap_or_default();
        ask("/v3/kv/compaction", &json!({"revision": revision, "physical": true})).map(drop)
    }

    /// Writes objects, sixteen at a time, in no order.
    pub fn write(&self, writes: &[Write]) -> Result<(), LabError> {
        self.admin.write(writes)
    }

    /// An object or list by its path.
    pub fn get(&self, path: &str) -> Result<Value, LabError> {
        self.admin.get(path)
    }

    /// Gives the agents' service account the rights of the agent's manifest, and no others.
    pub fn grant(&self) -> Result<(), LabError> {
        self.write(&objects::rights())
    }

    /// Takes the right to see pods away.
    pub fn revoke_pods(&self) -> Result<(), LabError> {
        let only_nodes = objects::cluster_role(&["nodes"]);
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/podsonar";
        self.write(&[Write::replace(path, only_nodes)])
    }

    /// A token of the agents' service account, good for ten minutes.
    pub fn token(&self) -> Result<String, LabError> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/podsonar/token");
        let answer = self.admin.post(&path, &json!({"spec": {"expirationSeconds": 600}}))?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token
            .map(str::to_owned)
            .ok_or_else(|| LabError::Malformed { what: "a token", text: answer.to_string() })
    }

    /// Replaces the agents' service account by another one of the same name: tokens that it has given are refused now.
    pub fn void_tokens(&self) -> Result<(), LabError> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/podsonar");
        self.write(&[Write::delete(&path)])?;
        self.make_account()
    }

    fn make_account(&self) -> Result<(), LabError> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
        self.write(&[Write::create(&path, json!({"metadata": {"name": "podsonar"}}))])
    }

    fn command(&self) -> Result<Command, LabError> {
        let folder = self.folder.display();
        let mut command = Command::new(tool::cluster("kube-apiserver")?);
        command.args([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={PORT}"),
            format!("--cert-dir={folder}/certificates"),
            format!("--token-auth-file={folder}/tokens.csv"),
            "--authorization-mode=RBAC".to_owned(),
            "--anonymous-auth=false".to_owned(),
            // No controllers are there to make the accounts that it would want.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={folder}/accounts.pub"),
            format!("--service-account-signing-key-file={folder}/accounts.key"),
            // A test's own requests must not wait for each other.
            "--max-requests-inflight=2000".to_owned(),
            "--max-mutating-requests-inflight=2000".to_owned(),
        ]);
        if !self.settings.streams_lists {
            command.arg("--feature-gates=WatchList=false");
        }
        Ok(command)
    }
}

fn etcd(folder: &Path, settings: Settings) -> Result<Command, LabError> {
    let here = |port: u16| format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
    let mut command = Command::new(if settings.old_etcd { tool::cluster("etcd")? } else { tool::etcd()? });
    command.args([
        "--name=lab".to_owned(),
        format!("--data-dir={}/etcd", folder.display()),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=error".to_owned(),
        format!("--listen-client-urls={}", here(2379)),
        format!("--advertise-client-urls={}", here(2379)),
        format!("--listen-peer-urls={}", here(2380)),
        format!("--initial-advertise-peer-urls={}", here(2380)),
        format!("--initial-cluster=lab={}", here(2380)),
    ]);
    Ok(command)
}

/// Asks etcd by its JSON gateway, in HTTP/1.0, so that the answer ends with the connection.
fn post_to_etcd(path: &str, body: &Value) -> io::Result<String> {
    let body = body.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 2379))?;
    write!(stream, "POST {path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Writes what an agent's pod would have into a folder of the machine: the files `token` and `ca.crt`.
pub fn write_access(folder: &Path, token: &str, authority: &[u8]) -> Result<(), LabError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).doing(format!("write {}", path.display()))
    };
    write("token", token.as_bytes())?;
    write("ca.crt", authority)
}
