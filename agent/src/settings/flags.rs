//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use podsonar_core::config::setting::{self, Setting};
use podsonar_core::config::{Origin, Written};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "podsonar", version, about = "Truthful latency and loss of your network, on /metrics.")]
#[command(max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What podsonar can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Probe targets until stopped, and serve what was measured
    Run(Flags),
    /// Say what is wrong with a configuration, all at once; needs no privilege and sends nothing
    CheckConfig(Flags),
    /// Print what would be in force as a configuration file, and where each value comes from
    PrintConfig(Flags),
    /// Ask the agent that runs on this host what it sees: its targets by state, and each fault by place
    Status(Ask),
    /// Try out on loopback what this host lets podsonar do, and say what to do where it does not
    Preflight,
}

/// Whom to ask for its status, and how to show it.
#[derive(Debug, Clone, Default, Args)]
pub struct Ask {
    /// Print JSON instead of words
    #[arg(long)]
    pub json: bool,

    /// Where the agent serves its metrics [default: the port of `listen`, on 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub address: Option<SocketAddr>,
}

/// The flags of all commands, as text, so that all problems are reported together.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::doc_markdown, reason = "clap shows it to users as it is")]
pub struct Flags {
    /// Read settings from a YAML file; flags and environment are stronger [default: $PODSONAR_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Probe ADDRESS by ICMP, ADDRESS:PORT by ICMP and TCP SYN; IPv6 as [ADDRESS]:PORT. NAME and NAME:PORT alike.
    /// May be repeated
    #[arg(long = "target", value_name = "TARGET")]
    targets: Vec<String>,

    /// Probe the targets in FILE, one per line; `#` begins a comment
    #[arg(long, value_name = "FILE")]
    targets_file: Option<String>,

    /// Ask all name servers for NAME and probe its addresses; NAME:PORT also by TCP SYN. May be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,

    /// Time between two probes of a target by one protocol [default: 1s]
    #[arg(long, value_name = "TIME")]
    interval: Option<String>,

    /// A probe without answer after this time is lost. TCP needs less than 950ms [default: 800ms]
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,

    /// Protocols to use where a target allows them: icmp, tcp, connect [default: icmp,tcp]
    #[arg(long, value_name = "LIST")]
    protocols: Option<String>,

    /// Most probes per second, all targets together [default: 20000]
    #[arg(long, value_name = "NUMBER")]
    max_pps: Option<String>,

    /// Payload of an ICMP echo request in bytes [default: 56]
    #[arg(long, value_name = "BYTES")]
    size: Option<String>,

    /// Serve /metrics here [default: [::]:19988, or 0.0.0.0:19988 where there is no IPv6]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,

    /// Append one JSON line for each finished probe to FILE
    #[arg(long, value_name = "FILE")]
    record: Option<String>,

    /// Name of this host in the label `source` [default: $NODE_NAME, else the host name]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Zone of this host, in the label `source_zone`
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,

    /// Another agent: NODE=ADDRESS, NODE@ZONE=ADDRESS:PORT; in Kubernetes they are found. May be repeated
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<String>,

    /// Probe the pods in FILE, Pod manifests in YAML, and tell peers of them; in Kubernetes they are found
    #[arg(long, value_name = "FILE")]
    pods_file: Option<String>,

    /// Where /v1/node is served to other agents [default: port 19989]
    #[arg(long, value_name = "ADDRESS:PORT")]
    mesh_listen: Option<String>,

    /// Whether pods and peers are found by the Kubernetes API: auto or off [default: auto]
    #[arg(long, value_name = "auto|off")]
    kubernetes: Option<String>,

    /// How log lines look: text or json; they go to stderr. $PODSONAR_LOG sets the level: error, warn, info, debug,
    /// trace [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Flags {
    /// Notes everything that the flags say.
    pub(super) fn write(&self, written: &mut Written) {
        let one = [
            (&setting::TARGETS_FILE, &self.targets_file),
            (&setting::INTERVAL, &self.interval),
            (&setting::TIMEOUT, &self.timeout),
            (&setting::PROTOCOLS, &self.protocols),
            (&setting::MAX_PPS, &self.max_pps),
            (&setting::SIZE, &self.size),
            (&setting::LISTEN, &self.listen),
            (&setting::RECORD, &self.record),
            (&setting::SOURCE, &self.source),
            (&setting::PODS_FILE, &self.pods_file),
            (&setting::MESH_LISTEN, &self.mesh_listen),
            (&setting::ZONE, &self.zone),
            (&setting::KUBERNETES, &self.kubernetes),
            (&setting::LOG_FORMAT, &self.log_format),
        ];
        let mut set = |setting: &'static Setting, text: &str| {
            written.set(setting, Origin::Flag(setting.flag.unwrap_or(setting.key)), text);
        };
        for (setting, text) in one {
            if let Some(text) = text {
                set(setting, text);
            }
        }
        for (setting, texts) in [(&setting::TARGETS, &self.targets), (&setting::NAMES, &self.names)] {
            for text in texts {
                set(setting, text);
            }
        }
        if !self.peers.is_empty() {
            set(&setting::MESH_PEERS, &self.peers.join(","));
        }
    }
}
