//! What `/v1/node` says, as bytes: JSON with its version in it.
//!
//! ```json
//! {"version":1,"node":"node-a","zone":"z1","epoch":"0123456789abcdef","addresses":["192.0.2.1"],"leaving":false,
//!  "pods":[{"uid":"…","namespace":"default","name":"web-0","workload":"StatefulSet/web","ips":["10.0.0.7"],
//!           "port":80,"local":{"icmp":"yes","tcp":"never"},"running_ms":61000}]}
//! ```
//!
//! `epoch` is hexadecimal, since a JSON number has 53 bits. `running_ms` is when the pod became Running, on the clock of
//! the agent that tells, which [`CLOCK`] shows; it is missing if the pod was so before the agent looked. `port` is
//! missing if none is known.
//!
//! **Versions.** A reader ignores fields that it does not know and treats missing ones that have a natural empty value
//! as empty, so most changes need no new version. One that does is made in two releases: the first reads the new version
//! and still writes the old one, the second writes it. So agents of neighbouring releases understand each other. An
//! agent that meets a version outside [`READS`] counts it and goes on without that list. A build with
//! `--cfg podsonar_next` writes the next version without the release between, for tests.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use podsonar_core::mesh::{Answers, Local, NodeView, Pod};
use podsonar_core::time::Instant;
use serde::{Deserialize, Serialize};

use super::MAX_PODS;
use super::capped::Capped;

/// The version that is written.
pub const WRITES: u32 = if cfg!(podsonar_next) { 2 } else { 1 };

/// The versions that are read: that one, and the one before it.
pub const READS: RangeInclusive<u32> = 1..=WRITES;

/// Where it is served.
pub const PATH: &str = "/v1/node";

/// The header that shows the clock of the agent that answers, in milliseconds since it started.
pub const CLOCK: &str = "podsonar-clock";

/// The header that says how old the agent's own knowledge of its pods is, in milliseconds, 0 while its watch is whole;
/// missing before it has any.
pub const WATCH_AGE: &str = "podsonar-watch-age";

/// The header that says whether the agent that answers probes the one that asks: 1 or 0; missing where it cannot tell who
/// asks. Agents that see another cluster for a while, as above 1,000 of them, choose otherwise: who is not chosen any more
/// hears nothing of an agent that is well.
pub const PROBES_YOU: &str = "podsonar-probes-you";

/// Most addresses of a node or a pod that are looked at: enough to see that there are too many.
const MAX_ADDRESSES: usize = 4;

/// Writes what a node tells of itself: at most [`MAX_PODS`] pods, the first by UID.
pub fn encode(view: &NodeView, started: Instant) -> Vec<u8> {
    let pods = view.pods.iter().take(MAX_PODS).map(|pod| pod_out(pod, started)).collect();
    let list = ListOut {
        version: WRITES,
        node: &view.node,
        zone: &view.zone,
        epoch: format!("{:016x}", view.epoch),
        addresses: view.addresses.iter().map(ToString::to_string).collect(),
        leaving: view.leaving,
        pods,
        next: cfg!(podsonar_next).then_some("ignored by those who do not know it"),
    };
    // Neither a map with keys that are no text nor a writer that fails.
    serde_json::to_vec(&list).unwrap_or_default()
}

/// Reads a list of a version that is understood.
///
/// # Errors
/// [`Unread`].
pub(crate) fn decode(bytes: &[u8]) -> Result<ListIn<'_>, Unread> {
    let Head { version } = serde_json::from_slice(bytes)?;
    if !READS.contains(&version) {
        return Err(Unread::Version);
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Why a list cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// A version that this agent does not read.
    Version,
    /// No JSON, or no list.
    Malformed,
}

impl From<serde_json::Error> for Unread {
    fn from(_: serde_json::Error) -> Self {
        Self::Malformed
    }
}

#[derive(Serialize)]
struct ListOut<'a> {
    version: u32,
    node: &'a str,
    zone: &'a str,
    epoch: String,
    addresses: Vec<String>,
    leaving: bool,
    pods: Vec<PodOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'static str>,
}

#[derive(Serialize)]
struct PodOut<'a> {
    uid: &'a str,
    namespace: &'a str,
    name: &'a str,
    workload: &'a str,
    ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    local: LocalOut,
    #[serde(skip_serializing_if = "Option::is_none")]
    running_ms: Option<u64>,
}

#[derive(Serialize)]
struct LocalOut {
    icmp: &'static str,
    tcp: &'static str,
}

fn pod_out(pod: &Pod, started: Instant) -> PodOut<'_> {
    PodOut {
        uid: &pod.id.uid,
        namespace: &pod.id.namespace,
        name: &pod.id.name,
        workload: &pod.id.workload,
        ips: pod.addresses.iter().map(ToString::to_string).collect(),
        port: pod.port,
        local: LocalOut { icmp: word(pod.local.icmp), tcp: word(pod.local.tcp) },
        running_ms: pod.running_since.map(|since| milliseconds(started, since)),
    }
}

/// What the agent's clock shows: milliseconds since it started.
pub(crate) fn milliseconds(started: Instant, at: Instant) -> u64 {
    u64::try_from(at.since(started).as_millis()).unwrap_or(u64::MAX)
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// A list as a peer says it: nothing of it is checked.
#[derive(Debug, Deserialize)]
pub(crate) struct ListIn<'a> {
    #[serde(borrow)]
    pub(crate) node: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) zone: Text<'a>,
    #[serde(borrow)]
    pub(crate) epoch: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) addresses: Capped<Text<'a>, MAX_ADDRESSES>,
    #[serde(default)]
    pub(crate) leaving: bool,
    #[serde(borrow)]
    pub(crate) pods: Capped<PodIn<'a>, MAX_PODS>,
}

/// A pod as a peer says it.
#[derive(Debug, Deserialize)]
pub(crate) struct PodIn<'a> {
    #[serde(borrow)]
    pub(crate) uid: Text<'a>,
    #[serde(borrow)]
    pub(crate) namespace: Text<'a>,
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) workload: Text<'a>,
    #[serde(borrow)]
    pub(crate) ips: Capped<Text<'a>, MAX_ADDRESSES>,
    pub(crate) port: Option<u64>,
    #[serde(borrow, default)]
    local: LocalIn<'a>,
    pub(crate) running_ms: Option<u64>,
}

impl PodIn<'_> {
    pub(crate) fn local(&self) -> Local {
        Local { icmp: answers(&self.local.icmp.0), tcp: answers(&self.local.tcp.0) }
    }
}

#[derive(Debug, Default, Deserialize)]
struct LocalIn<'a> {
    #[serde(borrow, default)]
    icmp: Text<'a>,
    #[serde(borrow, default)]
    tcp: Text<'a>,
}

/// Text in the body itself where it has no escapes.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

const fn word(answers: Answers) -> &'static str {
    match answers {
        Answers::Never => "never",
        Answers::Yes => "yes",
        Answers::NotNow => "not_now",
    }
}

/// A word that this version does not know says nothing, like one that is missing.
fn answers(word: &str) -> Answers {
    match word {
        "yes" => Answers::Yes,
        "not_now" => Answers::NotNow,
        _ => Answers::Never,
    }
}

#[cfg(test)]
pub(super) mod tests;
