//! What the agent does with each piece of news, as it comes.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use podsonar_core::config::Probing;
use podsonar_core::engine::{Fetched, Question};
use podsonar_core::mesh::NodeView;
use podsonar_core::query::QueryResult;
use podsonar_core::query::pods::POD_NAMES;
use podsonar_core::target::PodId;

use super::Agent;
use crate::clock;
use crate::discovery::pod_names::NamedPod;
use crate::ledger::Queried;
use crate::mesh::{Mesh, Orders};
use crate::probe::runner::Answered;

impl Agent {
    /// Discovery has found something else than before.
    pub(super) fn take_news(&mut self) {
        if let Some(mesh) = &mut self.mesh {
            mesh.take_news(self.plan.probing(), clock::now());
        }
        self.tell_own_view();
        self.obey_mesh();
    }

    /// A peer was asked for its list.
    pub(super) fn take_list(&mut self, node: &Arc<str>, fetched: Fetched) {
        let now = clock::now();
        if self.mesh.as_mut().is_some_and(|mesh| mesh.learn(node, fetched, now)) {
            self.obey_mesh();
        }
    }

    /// What time alone may have changed.
    pub(super) fn look_at_mesh(&mut self) {
        let changed = self.tell_own_view();
        if changed || self.mesh.as_ref().is_some_and(Mesh::is_settling) {
            self.obey_mesh();
        }
    }

    /// Our own list says what is so now, to peers and to the driver. Returns whether it is something else than before.
    fn tell_own_view(&mut self) -> bool {
        let Some(mesh) = &mut self.mesh else { return false };
        let view = mesh.own_view(clock::now());
        let known = |before: &NodeView| {
            let whole = |age: Option<Duration>| age.is_some_and(|age| age.is_zero());
            (&before.pods, before.leaving, &before.zone, whole(before.watch_age))
                == (&view.pods, view.leaving, &view.zone, whole(view.watch_age))
        };
        let changed = !self.told.as_deref().is_some_and(known);
        if changed {
            self.driver.view(Arc::clone(&view));
            self.told = Some(view);
        }
        changed
    }

    /// What follows from the mesh, as far as it is something else than before.
    fn obey_mesh(&mut self) {
        let Some(mesh) = &self.mesh else { return };
        let orders = mesh.orders(self.plan.probing());
        let before = std::mem::replace(&mut self.ordered, orders);
        let Orders { peers, duties, sources, named, servers } = &self.ordered;
        if *peers != before.peers {
            self.driver.peers(peers.clone());
        }
        if *sources != before.sources {
            self.driver.hear(sources.clone());
        }
        if duties.fetches != before.duties.fetches {
            self.driver.fetch(duties.fetches.clone());
        }
        if duties.planned != before.duties.planned {
            self.plan.take_mesh(duties.planned.clone());
            self.driver.probe(self.plan.planned(self.means));
        }
        let other_names = *named != before.named || *servers != before.servers;
        if other_names && self.plan.take_pods(named.clone(), servers.clone()) {
            self.ask();
        }
    }

    /// Other settings than before, validated.
    pub(super) fn replace(&mut self, probing: Probing) {
        self.plan.replace(probing);
        if let Some(mesh) = &mut self.mesh {
            mesh.configure(self.plan.probing());
            self.obey_mesh();
        }
        self.driver.settle(self.plan.probing().mesh.settle);
        self.driver.probe(self.plan.planned(self.means));
        self.ask();
    }

    /// Asks what the plan wants asked.
    pub(super) fn ask(&mut self) {
        let asking = Arc::new(self.plan.asking());
        *self.asking.write().unwrap_or_else(PoisonError::into_inner) = asking;
        let questions = self.plan.questions();
        let pairs = questions.iter().map(|each| (each.question.server, Arc::clone(&each.question.name)));
        self.dns.configure(pairs, clock::now());
        self.driver.ask(questions, self.plan.probing().dns.max_qps);
        self.metrics.set_unresolved(self.plan.unresolved());
    }

    /// A group of questions has ended. What their servers said was sent before, and is looked at now, so that it wakes
    /// us once, and what is probed changes once.
    pub(super) fn take_answers(&mut self, queried: &[Queried]) {
        for (question, result) in queried {
            self.dns.result(question, *result);
        }
        let mut changed = false;
        while let Ok(Answered { question, pod, answer }) = self.answers.try_recv() {
            self.dns.answer(&question, &answer);
            if let Some(pod) = pod {
                self.resolved(&question, &pod, answer.result);
            } else if self.plan.answered(&question, &answer) {
                changed = true;
                let addresses = self.plan.addresses(&question.name);
                tracing::info!(name = %question.name, ?addresses, "addresses changed");
            }
        }
        if changed {
            self.driver.probe(self.plan.planned(self.means));
            self.metrics.set_unresolved(self.plan.unresolved());
        }
    }

    /// A pod's name was asked for. Where it is right, its address is probed once.
    fn resolved(&mut self, question: &Question, pod: &NamedPod, result: QueryResult) {
        let PodId { namespace, name, .. } = &*pod.id;
        tracing::debug!(
            server = %question.server,
            asked = &*question.name,
            %namespace,
            %name,
            result = result.label(),
            "pod's name"
        );
        if &*question.name != POD_NAMES {
            return;
        }
        if self.unserved.note(question.server, result) {
            tracing::warn!(
                server = %question.server,
                "the name server has no pods' names: each is nxdomain (CoreDNS has `pods disabled`, or the cluster's \
                 domain is another one: dns.cluster_domain); dns.pods: false ends the questions"
            );
        }
        if result == QueryResult::NoError {
            self.driver.probe_once(Arc::clone(&pod.node), self.plan.once(pod, self.means));
        }
    }
}
