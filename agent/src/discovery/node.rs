//! The own node, by a watch of its Node object: its zone, and whether it is about to leave.

mod index;

use std::sync::Arc;

use podsonar_core::config::Identity;
use tokio::sync::watch::Sender;

pub use self::index::{Leaving, Node};

use super::api::Api;
use super::watch::{Event, Health, Random, Scope, TroubleKind, Watch};

/// What is known of the own node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnNode {
    /// The label `topology.kubernetes.io/zone`; empty if it has none or nothing is known yet.
    pub zone: Arc<str>,
    /// Why the node is about to leave, if it is.
    pub leaving: Option<Leaving>,
    /// How current that is.
    pub health: Health,
}

/// Follows the own node for ever; `count` is told each failure. Receivers wake when zone or leaving change, and when the
/// watch breaks or mends; its last sign of life is in the value without waking them.
pub async fn follow(
    api: Api,
    identity: &Identity,
    publish: Sender<OwnNode>,
    count: impl Fn(TroubleKind) + Send,
) {
    let scope = Scope {
        what: "the own node",
        path: "/api/v1/nodes".into(),
        fields: format!("metadata.name={}", identity.node),
        labels: String::new(),
    };
    let mut watch: Watch<Node> = Watch::new(api, scope, Random::drawn());
    let mut seen = false;
    loop {
        let event = watch.next().await;
        let mut known = publish.borrow().clone();
        match event {
            Event::Begin => seen = false,
            Event::Include(node) | Event::Apply(node) => {
                seen = true;
                (known.zone, known.leaving) = (node.zone(&known.zone), node.leaving());
            }
            Event::Complete if seen => {}
            Event::Complete | Event::Delete(_) => known.leaving = Some(Leaving::Deleted),
            Event::Heard => {}
            Event::Broken(trouble) => count(trouble.kind),
        }
        known.health = watch.health();
        publish.send_if_modified(|before| {
            let news = before.zone != known.zone
                || before.leaving != known.leaving
                || before.health.is_whole() != known.health.is_whole();
            *before = known;
            news
        });
    }
}
