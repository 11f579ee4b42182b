//! What this agent hears of its own node's pods: what it tells its peers of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use podsonar_core::mesh::{Answers, Local, Pod};
use podsonar_core::target::{Kind, Protocol, Stream};

use super::state::lock;
use crate::condition::Heard;

/// By UID and address.
#[derive(Debug, Default)]
pub(crate) struct LocalAnswers(Mutex<HashMap<(Arc<str>, IpAddr), Local>>);

impl LocalAnswers {
    /// A stream of this agent `source` is heard otherwise, or no longer. Streams that are not to its own pods do not matter.
    pub(crate) fn note(&self, source: &str, stream: &Stream, heard: Option<Heard>) {
        let target = &stream.target;
        let Some(pod) =
            target.pod.as_ref().filter(|_| target.kind == Kind::Pod && *target.destination == *source)
        else {
            return;
        };
        let mut all = lock(&self.0);
        let key = (Arc::clone(&pod.uid), target.address);
        let Some(heard) = heard else {
            // Its other stream leaves with it.
            all.remove(&key);
            return;
        };
        let local = all.entry(key).or_default();
        let place = match stream.protocol {
            Protocol::Icmp => &mut local.icmp,
            Protocol::Tcp | Protocol::Connect => &mut local.tcp,
        };
        *place = match (heard, *place) {
            (Heard::Answers | Heard::Listener, _) => Answers::Yes,
            (Heard::Silence, Answers::Yes | Answers::NotNow) => Answers::NotNow,
            (Heard::Nothing | Heard::NeverAnswered | Heard::NeverReachable | Heard::Silence, before) => {
                before
            }
        };
    }

    /// What is heard of a pod at any of its addresses.
    pub(crate) fn of(&self, pod: &Pod) -> Local {
        let all = lock(&self.0);
        let known = pod.addresses.iter().filter_map(|address| all.get(&(Arc::clone(&pod.id.uid), *address)));
        known.fold(Local::default(), |sum, local| Local {
            icmp: better(sum.icmp, local.icmp),
            tcp: better(sum.tcp, local.tcp),
        })
    }
}

fn better(a: Answers, b: Answers) -> Answers {
    match (a, b) {
        (Answers::Yes, _) | (_, Answers::Yes) => Answers::Yes,
        (Answers::NotNow, _) | (_, Answers::NotNow) => Answers::NotNow,
        (Answers::Never, Answers::Never) => Answers::Never,
    }
}
