//! [`Control`]: etcd and the control plane, on the host that routes between nodes.

use super::Settings;
use super::addresses::{API_V4, API_V6, SERVICES};
use super::certificates::Authority;
use super::part::{Part, Place};
use crate::error::LabError;
use crate::host::Host;
use crate::tool;
use std::path::Path;

/// The cluster's control plane. Each part may be stopped, killed and started again.
#[derive(Debug)]
pub struct Control {
    /// Answers `kubectl proxy`, by which the lab itself asks.
    pub proxy: Part,
    /// The API server.
    pub api_server: Part,
    /// The controllers, among them those of `DaemonSet`s and `EndpointSlice`s.
    pub controllers: Part,
    /// The scheduler.
    pub scheduler: Part,
    /// The store of the API server.
    pub etcd: Part,
}

/// Where the API server answers nodes and the lab.
pub(super) fn server() -> String {
    format!("https://{API_V4}:6443")
}

/// The port of loopback on which the lab asks for objects in plain HTTP.
pub(super) const PROXY_PORT: u16 = 8001;

impl Control {
    /// Starts all of it; it is ready later.
    pub(super) fn start(
        host: &Host,
        settings: &Settings,
        authority: &Authority,
        keys: &Path,
        logs: &Path,
    ) -> Result<Self, LabError> {
        host.run(&format!("ip addr add {API_V4}/32 dev lo"))?;
        host.run(&format!("ip addr add {API_V6}/128 dev lo"))?;
        for family in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
            host.sysctl(&format!("net.{family}"), "1")?;
        }
        let server = server();
        let client = |name: &str, group: &str| authority.client(name, name, group, &server);
        let admin = client("admin", "system:masters")?;
        client("apiserver-kubelet", "system:masters")?;
        let controllers = client("system:kube-controller-manager", "lab")?;
        let scheduler = client("system:kube-scheduler", "lab")?;
        client("system:kube-proxy", "lab")?;
        let start = |name: &str, arguments: Vec<String>| {
            Part::start(Place::Host(host.clone()), name, tool::cluster(name)?, arguments, logs)
        };
        let services = if settings.dual_stack { SERVICES.join(",") } else { SERVICES[0].to_owned() };
        Ok(Self {
            etcd: Part::start(Place::Host(host.clone()), "etcd", tool::etcd()?, etcd(), logs)?,
            api_server: start("kube-apiserver", api_server(keys, &services, settings))?,
            controllers: start(
                "kube-controller-manager",
                controller_manager(keys, &controllers, &services, settings),
            )?,
            scheduler: start("kube-scheduler", kube_scheduler(&scheduler))?,
            proxy: Part::start(
                Place::Host(host.clone()),
                "kubectl",
                tool::cluster("kubectl")?,
                vec![
                    format!("--kubeconfig={}", admin.display()),
                    "proxy".into(),
                    format!("--port={PROXY_PORT}"),
                ],
                logs,
            )?,
        })
    }

    /// Nothing, as long as every part runs.
    ///
    /// # Errors
    /// [`LabError::Missing`] for one that has ended.
    pub fn must_run(&mut self) -> Result<(), LabError> {
        self.parts().into_iter().try_for_each(Part::must_run)
    }

    /// All of them, in the order in which they start.
    pub(super) fn parts(&mut self) -> [&mut Part; 5] {
        [&mut self.etcd, &mut self.api_server, &mut self.controllers, &mut self.scheduler, &mut self.proxy]
    }
}

fn etcd() -> Vec<String> {
    words(
        "--name=lab --data-dir=/run/etcd --unsafe-no-fsync \
         --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
         --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
         --initial-cluster=lab=http://127.0.0.1:2380",
    )
}

fn api_server(keys: &Path, services: &str, settings: &Settings) -> Vec<String> {
    let keys = keys.display();
    let toleration = settings.toleration.as_secs();
    words(&format!(
        "--etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=:: --advertise-address={API_V4} \
         --service-cluster-ip-range={services} --client-ca-file={keys}/ca.crt \
         --tls-cert-file={keys}/apiserver.crt --tls-private-key-file={keys}/apiserver.key \
         --kubelet-client-certificate={keys}/apiserver-kubelet.crt \
         --kubelet-client-key={keys}/apiserver-kubelet.key --kubelet-preferred-address-types=InternalIP \
         --service-account-issuer=https://kubernetes.default.svc.cluster.local \
         --service-account-key-file={keys}/accounts.pub --service-account-signing-key-file={keys}/accounts.key \
         --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
         --default-not-ready-toleration-seconds={toleration} \
         --default-unreachable-toleration-seconds={toleration}"
    ))
}

fn controller_manager(keys: &Path, client: &Path, services: &str, settings: &Settings) -> Vec<String> {
    let (keys, client, grace) = (keys.display(), client.display(), settings.silence.as_secs());
    // With the usual limit its controllers take four seconds more to start.
    words(&format!(
        "--kubeconfig={client} --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials \
         --root-ca-file={keys}/ca.crt --service-account-private-key-file={keys}/accounts.key \
         --service-cluster-ip-range={services} --node-monitor-grace-period={grace}s \
         --kube-api-qps=200 --kube-api-burst=400"
    ))
}

fn kube_scheduler(client: &Path) -> Vec<String> {
    words(&format!(
        "--kubeconfig={} --bind-address=127.0.0.1 --leader-elect=false --kube-api-qps=200 --kube-api-burst=400",
        client.display()
    ))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
