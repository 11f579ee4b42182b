//! What a node's programs are told by files.

use super::super::Settings;
use super::super::addresses::{DNS_V4, PODS, pods_of};
use super::Identity;
use std::path::Path;

/// containerd's. `restrict_oom_score_adj` is what it needs where the machine has no `CAP_SYS_RESOURCE` to give.
pub(super) fn containerd(folder: &Path, cni: &Path, runc: &Path) -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "lab.local/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{cni}"]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"#,
        folder = folder.display(),
        cni = cni.display(),
        runc = runc.display(),
    )
}

/// kubelet's. Nothing is ever evicted, since all nodes see the whole machine's memory and disk; the score that the
/// kernel kills by stays, since lowering it takes `CAP_SYS_RESOURCE`. A changed `ConfigMap` reaches pods by a sixth of the usual
/// time.
pub(super) fn kubelet(settings: &Settings, authority: &Path, cgroup: &str, files: u64) -> String {
    let lease = (settings.silence.as_secs() / 2).max(4);
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
oomScoreAdj: 0
failSwapOn: false
protectKernelDefaults: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: '{authority}'}}}}
authorization: {{mode: Webhook}}
clusterDNS: ['{DNS_V4}']
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
evictionHard: {{memory.available: 1Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}}
imageGCHighThresholdPercent: 100
containerLogMaxSize: 1Mi
containerLogMaxFiles: 2
volumePluginDir: /var/lib/kubelet/volume-plugins
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
nodeLeaseDurationSeconds: {lease}
maxPods: 120
maxOpenFiles: {files}
",
        authority = authority.display(),
    )
}

/// kube-proxy's. The limits of connection tracking are the whole machine's: it must not touch them.
pub(super) fn proxy(settings: &Settings, client: &Path) -> String {
    let pods = if settings.dual_stack { PODS.join(",") } else { PODS[0].to_owned() };
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: '{client}'}}
clusterCIDR: '{pods}'
oomScoreAdj: 0
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
nftables: {{minSyncPeriod: 200ms}}
",
        client = client.display(),
    )
}

/// The pod network's: a bridge, and addresses that are given out from the node's own range; their book is in `/run`, so
/// that a restart of the node forgets it.
pub(super) fn network(settings: &Settings, identity: &Identity) -> String {
    let families = if settings.dual_stack { 2 } else { 1 };
    let list = |items: Vec<String>| items.into_iter().take(families).collect::<Vec<_>>().join(",");
    let ranges = list(pods_of(identity.number).map(|range| format!(r#"[{{"subnet":"{range}"}}]"#)).into());
    let routes = list(["0.0.0.0/0", "::/0"].map(|to| format!(r#"{{"dst":"{to}"}}"#)).into());
    format!(
        r#"{{"cniVersion":"1.0.0","name":"lab","plugins":[{{"type":"bridge","bridge":"cni0","isGateway":true,
"hairpinMode":true,"ipMasq":false,"ipam":{{"type":"host-local","dataDir":"/run/cni-addresses",
"ranges":[{ranges}],"routes":[{routes}]}}}}]}}"#
    )
}

/// Files of `/proc/sys` that kubelet wants to write and that are the whole machine's, with the values that it wants: a
/// file that holds them already stands before each.
pub(super) const MACHINE_WIDE: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
