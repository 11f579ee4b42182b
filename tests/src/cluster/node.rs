//! [`Node`]: a machine with containerd, kubelet and kube-proxy, joined to the cluster's router by a link.

mod files;

use super::Shared;
use super::addresses::{EVERYTHING, pods_of};
use super::cgroups;
use super::machine::{Machine, bind, mount_new, share_mounts};
use super::part::{Part, Place};
use crate::clock::{soon, wait_until};
use crate::error::{Doing, LabError};
use crate::fault::Faults;
use crate::lab::ends;
use crate::link::{Link, LinkOptions};
use crate::process::command_line;
use crate::tool;
use files::MACHINE_WIDE;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Which node.
#[derive(Debug, Clone)]
pub struct Identity {
    /// From 1 on.
    pub number: u8,
    /// `node1` and so on.
    pub name: String,
    /// `zone1` and so on.
    pub zone: String,
}

/// A node. It is off or on; what it was told stays over that, what is on its disks does not.
#[derive(Debug)]
pub struct Node {
    /// Which one.
    pub identity: Identity,
    shared: Arc<Shared>,
    /// Gives the link its names and addresses, the same each time.
    joint: u16,
    /// Its settings and logs, on the machine's disk.
    folder: PathBuf,
    running: Option<Running>,
}

/// What a node that is on consists of.
#[derive(Debug)]
pub struct Running {
    /// The machine. What runs on it can be reached by its `output`.
    pub machine: Arc<Machine>,
    /// Its link, `There` from the node to all others, `Back` from them to the node.
    pub link: Link,
    /// The container runtime.
    pub containerd: Part,
    /// The node's agent of Kubernetes; not yet there while the API server is not ready for the first time.
    pub kubelet: Option<Part>,
    /// The program of Services.
    pub proxy: Option<Part>,
}

impl Node {
    /// A node that is off.
    pub(super) fn new(number: u8, zones: u8, shared: &Arc<Shared>) -> Result<Self, LabError> {
        let name = format!("node{number}");
        let folder = shared.belongings.folder.join(&name);
        for part in ["log", "cni", "etc", "sys", "pods"] {
            fs::create_dir_all(folder.join(part)).doing(format!("make {}", folder.display()))?;
        }
        let zone = format!("zone{}", (number - 1) % zones + 1);
        let identity = Identity { number, name, zone };
        let joint = shared.lab.next_joint();
        // While the node is off, what is sent to it vanishes: no router says that it is not there.
        let [high, low] = joint.to_be_bytes();
        let links = [format!("10.{high}.{low}.0/24"), format!("fd00:0:0:{joint:x}::/64")];
        for prefix in links.into_iter().chain(pods_of(number)) {
            shared.router.run(&format!("ip route add blackhole {prefix} metric 9999"))?;
        }
        Ok(Self { identity, shared: Arc::clone(shared), joint, folder, running: None })
    }

    /// The node's own addresses.
    pub fn addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        let (end, _) = ends("", self.joint);
        (end.v4, end.v6)
    }

    /// What runs.
    ///
    /// # Errors
    /// [`LabError::Missing`] while it is off.
    pub fn running(&self) -> Result<&Running, LabError> {
        self.running.as_ref().ok_or_else(|| off(&self.identity.name))
    }

    /// The same, to kill parts and start them again.
    ///
    /// # Errors
    /// [`LabError::Missing`] while it is off.
    pub fn running_mut(&mut self) -> Result<&mut Running, LabError> {
        self.running.as_mut().ok_or_else(|| off(&self.identity.name))
    }

    /// Its link.
    ///
    /// # Errors
    /// [`LabError::Missing`] while it is off.
    pub fn link(&self) -> Result<&Link, LabError> {
        Ok(&self.running()?.link)
    }

    /// Takes all faults off its link.
    pub fn heal(&self) -> Result<(), LabError> {
        self.link()?.set_both(&Faults::default());
        Ok(())
    }

    /// Cuts its power: all that runs on it ends at once and its link is gone.
    pub fn power_off(&mut self) -> Result<(), LabError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.machine.cut()?;
        let Running { machine, link, containerd, kubelet, proxy } = running;
        drop((containerd, kubelet, proxy, link));
        machine.wait_for_end()?;
        drop(machine);
        cgroups::remove(&self.shared.belongings.name, &self.identity.name)
    }

    /// Switches it on, with empty disks. It joins the cluster by itself.
    pub fn power_on(&mut self) -> Result<(), LabError> {
        self.boot()?;
        self.join()
    }

    /// Starts the machine and its container runtime, with all images.
    pub(super) fn boot(&mut self) -> Result<(), LabError> {
        let name = &self.identity.name;
        cgroups::make(&self.shared.belongings.name, name)?;
        let machine = Arc::new(Machine::start(&self.shared.lab, name)?);
        let link = self.connect(&machine)?;
        self.prepare(&machine)?;
        let containerd = self.part(&machine, "containerd", "--config=", "containerd.toml", &[])?;
        self.running = Some(Running { machine, link, containerd, kubelet: None, proxy: None });
        let socket = self.running()?.machine.outside("/run/containerd/containerd.sock");
        wait_until(soon(), "containerd", || {
            self.running_mut()?.containerd.must_run()?;
            Ok(UnixStream::connect(&socket).ok())
        })?;
        self.shared.images.iter().try_for_each(|image| self.import(image))
    }

    /// Starts what speaks to the API server.
    pub(super) fn join(&mut self) -> Result<(), LabError> {
        let (v4, v6) = self.addresses();
        let dual = self.shared.settings.dual_stack;
        let addresses = if dual { format!("{v4},{v6}") } else { v4.to_string() };
        let Identity { name, zone, .. } = &self.identity;
        let server = super::control::server();
        let client =
            self.shared.authority.client(name, &format!("system:node:{name}"), "system:nodes", &server)?;
        let kubelet = [
            format!("--kubeconfig={}", client.display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={addresses}"),
            format!("--node-labels=topology.kubernetes.io/region=lab,topology.kubernetes.io/zone={zone}"),
        ];
        let machine = Arc::clone(&self.running()?.machine);
        let kubelet = self.part(&machine, "kubelet", "--config=", "kubelet.yaml", &kubelet)?;
        let arguments = [format!("--hostname-override={name}")];
        let proxy = self.part(&machine, "kube-proxy", "--config=", "proxy.yaml", &arguments)?;
        let running = self.running_mut()?;
        running.kubelet = Some(kubelet);
        running.proxy = Some(proxy);
        Ok(())
    }

    /// Puts a docker archive into the node's container runtime.
    fn import(&self, image: &Path) -> Result<(), LabError> {
        let mut command = Command::new(tool::cluster("ctr")?);
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(image);
        let line = command_line(&command);
        let output = self.running()?.machine.output(command)?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(LabError::Command { command: line, status: output.status.to_string(), stderr })
    }

    fn part(
        &self,
        machine: &Arc<Machine>,
        name: &str,
        flag: &str,
        file: &str,
        more: &[String],
    ) -> Result<Part, LabError> {
        let settings = format!("{flag}{}", self.folder.join(file).display());
        let arguments = std::iter::once(settings).chain(more.iter().cloned()).collect();
        let place = Place::Machine(Arc::clone(machine));
        Part::start(place, name, tool::cluster(name)?, arguments, &self.folder.join("log"))
    }

    /// Joins the machine to the router and tells each where the other's addresses are.
    fn connect(&self, machine: &Machine) -> Result<Link, LabError> {
        let (node, router) = (&machine.host, &self.shared.router);
        let options = LinkOptions { seed: self.joint.into(), ..LinkOptions::default() };
        let link = Link::of_joint(self.joint, node, router, options)?;
        for family in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
            node.sysctl(&format!("net.{family}"), "1")?;
        }
        // Pods on one bridge that reach each other by a Service: its answers must come back through the rules.
        if Path::new("/proc/sys/net/bridge").exists() {
            node.sysctl("net.bridge.bridge-nf-call-iptables", "1")?;
        }
        let [all_v4, all_v6] = EVERYTHING;
        node.route(all_v4, link.right.v4)?;
        node.route(all_v6, link.right.v6)?;
        let [pods_v4, pods_v6] = pods_of(self.identity.number);
        router.route(&pods_v4, link.left.v4)?;
        router.route(&pods_v6, link.left.v6)?;
        Ok(link)
    }

    /// Makes the machine's files its own where its programs write, and tells the programs what they need to know.
    fn prepare(&self, machine: &Machine) -> Result<(), LabError> {
        let (settings, folder) = (&self.shared.settings, self.folder.as_path());
        let name = &self.identity.name;
        let (_, most_files) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .doing("read the limit of open files")?;
        let cgroup = format!("/{}/{name}", self.shared.belongings.name);
        let keys = &self.shared.keys;
        let client = keys.join("system:kube-proxy.kubeconfig");
        let (cni, runc) = (tool::cluster("cni")?, tool::cluster("runc")?);
        let hosts = format!("127.0.0.1 localhost\n{} {name}\n", self.addresses().0);
        for (file, text) in [
            ("containerd.toml", files::containerd(folder, &cni, &runc)),
            ("kubelet.yaml", files::kubelet(settings, &keys.join("ca.crt"), &cgroup, most_files)),
            ("proxy.yaml", files::proxy(settings, &client)),
            ("cni/10-lab.conflist", files::network(settings, &self.identity)),
            ("etc/hosts", hosts),
            ("etc/hostname", format!("{name}\n")),
            ("etc/resolv.conf", String::new()),
        ] {
            write(&folder.join(file), &text)?;
        }
        for (key, value) in MACHINE_WIDE {
            write(&folder.join("sys").join(key.replace('/', "-")), value)?;
        }
        machine.with_files(|| {
            for file in ["hosts", "hostname", "resolv.conf"] {
                bind(&folder.join("etc").join(file), &format!("/etc/{file}"))?;
            }
            for (key, _) in MACHINE_WIDE {
                bind(&folder.join("sys").join(key.replace('/', "-")), &format!("/proc/sys/{key}"))?;
            }
            mount_new("tmpfs", "/var/lib")?;
            // Logs of pods outlive the machine, for a person to read.
            bind(&folder.join("pods"), "/var/log")?;
            share_mounts()
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The lab's own end would do the same, later.
        let _ = self.power_off();
    }
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).doing(format!("write {}", path.display()))
}

fn off(name: &str) -> LabError {
    LabError::Missing { what: "a node", hint: format!("{name} is off") }
}
