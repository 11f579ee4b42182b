//! [`Release`]: the chart as a Helm installs it, changes it and takes it away.

use podsonar_lab::cluster::watched::NAMESPACE;
use podsonar_lab::{Cluster, tool};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release's name. Its objects have it too, and so the tests' manifests know them.
const NAME: &str = "podsonar";

/// A release that one of the Helms keeps, with the image that the chart names, which the cluster's nodes have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    /// `helm` or `helm3`.
    pub(crate) helm: &'static str,
    /// Which of the chart's ways, as in `ci/WAY-values.yaml`.
    pub(crate) way: &'static str,
}

impl Release {
    /// Installs it into the agents' namespace.
    pub(crate) fn install(self, cluster: &Cluster, more: &[&str]) {
        self.change(cluster, "install", more);
    }

    /// Changes it to what these arguments say; what is not said is as the way has it.
    pub(crate) fn upgrade(self, cluster: &Cluster, more: &[&str]) {
        self.change(cluster, "upgrade", more);
    }

    /// Back to the revision before.
    pub(crate) fn rollback(self, cluster: &Cluster) {
        run(cluster, self.helm, &["rollback", NAME]);
    }

    /// Takes it away.
    pub(crate) fn uninstall(self, cluster: &Cluster) {
        run(cluster, self.helm, &["uninstall", NAME]);
    }

    /// The objects that it would have.
    pub(crate) fn render(self, cluster: &Cluster) -> String {
        let apis = ["PodMonitor", "PrometheusRule"]
            .map(|kind| format!("--api-versions=monitoring.coreos.com/v1/{kind}"));
        let line = ["template", NAME, &chart(), &self.values(), "--kube-version=1.36.0", &apis[0], &apis[1]];
        run(cluster, self.helm, &line)
    }

    fn change(self, cluster: &Cluster, verb: &str, more: &[&str]) {
        let line = [verb, NAME, &chart(), &self.values()];
        run(cluster, self.helm, &[&line[..], more].concat());
    }

    fn values(self) -> String {
        format!("--values={}/ci/{}-values.yaml", chart(), self.way)
    }
}

/// The chart's folder.
pub(crate) fn chart() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/podsonar").to_owned()
}

/// The ways that the chart says it supports.
pub(crate) fn ways() -> Vec<String> {
    let files = Path::new(&chart()).join("ci").read_dir().expect("the chart's ways");
    let names = files.map(|file| file.expect("readable").file_name().into_string().expect("plain"));
    names.map(|name| name.strip_suffix("-values.yaml").expect("values").to_owned()).collect()
}

/// Takes away what a test may have left, and gives the agents a namespace that admits everything.
pub(crate) fn remove(cluster: &Cluster) {
    run(cluster, "helm", &["uninstall", NAME, "--ignore-not-found", "--wait"]);
    enforce(cluster, NAMESPACE, "privileged");
}

/// Makes a namespace that enforces a level of pod security, or one that exists enforce it.
pub(crate) fn enforce(cluster: &Cluster, namespace: &str, level: &str) {
    let labels = format!("{{pod-security.kubernetes.io/enforce: {level}}}");
    let object =
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {labels}}}\n");
    cluster.apply(&object).expect("a namespace");
}

/// Runs a Helm on the cluster's router, as the administrator.
fn run(cluster: &Cluster, helm: &str, arguments: &[&str]) -> String {
    let home: PathBuf = cluster.folder().join("helm");
    let mut command = Command::new(tool::chart(helm).expect("Helm"));
    command
        .args(arguments)
        .arg(format!("--namespace={NAMESPACE}"))
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig());
    command.envs(["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, &home)));
    let output = cluster.router().output(command).expect("Helm runs");
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{helm} {}: {}", arguments.join(" "), words(&output.stderr));
    words(&output.stdout)
}
