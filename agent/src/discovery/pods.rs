//! The pods of the own node that may be probed, by a watch of just these.

mod index;
mod seen;

use std::sync::Arc;

use podsonar_core::config::{Identity, PodChoice};
use podsonar_core::mesh::Pod;
use tokio::sync::watch::{Receiver, Sender};

pub use self::index::Index;
pub use self::seen::{Addresses, SeenPod};

use super::api::Api;
use super::watch::{Event, Health, Random, Scope, TroubleKind, Watch};
use crate::clock;

/// The pods of the own node.
#[derive(Debug, Clone, Default)]
pub struct OwnPods {
    /// Those that may be probed, in order of UID; what their own agent hears of them is not known here.
    pub pods: Arc<[Pod]>,
    /// How current that is.
    pub health: Health,
}

/// Follows the own pods for ever; `count` is told each failure. With another choice all are listed again. Receivers wake
/// when the pods change and when the watch breaks or mends; its last sign of life is in the value without waking them.
pub async fn follow(
    api: Api,
    identity: &Identity,
    mut choice: Receiver<PodChoice>,
    publish: Sender<OwnPods>,
    count: impl Fn(TroubleKind) + Send,
) {
    let scope = Scope {
        what: "pods",
        path: "/api/v1/pods".into(),
        fields: format!("spec.nodeName={}", identity.node),
        labels: String::new(),
    };
    let mut watch: Watch<SeenPod> = Watch::new(api, scope, Random::drawn());
    let chosen = choice.borrow_and_update().clone();
    let mut index = Index::new(Arc::clone(&identity.uid), chosen);
    let mut may_change = true;
    loop {
        let event = tokio::select! {
            changed = choice.changed(), if may_change => {
                may_change = changed.is_ok();
                if may_change {
                    index.choose(choice.borrow_and_update().clone());
                    watch.restart();
                }
                continue;
            }
            event = watch.next() => event,
        };
        let changed = match event {
            Event::Begin => {
                index.begin();
                false
            }
            Event::Include(pod) => {
                index.include(&pod);
                false
            }
            Event::Complete => {
                index.complete();
                true
            }
            Event::Apply(pod) => {
                index.apply(&pod, (!watch.is_catching_up()).then(clock::now));
                true
            }
            Event::Delete(pod) => {
                index.delete(&pod);
                true
            }
            Event::Heard => false,
            Event::Broken(trouble) => {
                count(trouble.kind);
                false
            }
        };
        let health = watch.health();
        publish.send_if_modified(|known| {
            let mut news = known.health.is_whole() != health.is_whole();
            known.health = health;
            if changed {
                let pods = index.pods();
                if *known.pods != *pods {
                    known.pods = pods.into();
                    news = true;
                }
            }
            news
        });
    }
}
