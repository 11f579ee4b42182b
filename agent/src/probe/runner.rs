//! The driver's errands as tasks on the errands' thread: handshakes, questions to name servers, fetches from peers.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use podsonar_core::engine::{
    Connect, ConnectEnd, Connected, FetchId, Fetched, PlannedFetch, PlannedQuestion, Question, QuestionId,
};
use podsonar_core::exchange::FetchResult;
use podsonar_core::outcome::SendError;
use podsonar_core::query::QueryResult;
use podsonar_core::query::pods::{BARE_POD_NAMES, POD_NAMES, pod_name};
use podsonar_core::query::search::SearchList;
use tokio::sync::mpsc::UnboundedSender;

use super::connect::{self, End, Ended};
use super::dns::{Answer, Prober, Query};
use super::errands::{AT_ONCE, Errands};
use crate::clock;
use crate::discovery::pod_names::{NamedPod, PodNames, Rounds};
use crate::driver::{self, Done};
use crate::exchange::lists::Lists;

/// How questions are asked: what the configuration says beyond the questions themselves.
#[derive(Debug, Default)]
pub struct Asking {
    /// The only addresses that are right, by name.
    pub expect: HashMap<Arc<str>, Arc<[IpAddr]>>,
    /// Time for each exchange.
    pub timeout: Duration,
    /// The search list.
    pub search: SearchList,
    /// The domain behind pods' names; without it none is asked for.
    pub cluster_domain: Option<Arc<str>>,
}

impl Asking {
    /// What is really asked: a question about pods in general is about the one whose turn it is. `None`: there is none.
    fn asked(&self, question: &Question, rounds: &mut Rounds) -> Option<Asked> {
        let of = |name: Arc<str>, expect: Arc<[IpAddr]>| Query {
            name,
            server: question.server,
            record: question.record,
            expect,
            timeout: self.timeout,
        };
        match &*question.name {
            POD_NAMES => {
                let pod = rounds.next_name(question.server, question.record)?;
                let name = pod_name(pod.address, &pod.id.namespace, self.cluster_domain.as_deref()?)?;
                let query = of(name.into(), [pod.address].into());
                Some(Asked { query, search: SearchList::default(), pod: Some(pod) })
            }
            BARE_POD_NAMES => {
                let pod = rounds.next_bare(question.server)?;
                let query = of(Arc::clone(&pod.id.name), Arc::default());
                Some(Asked { query, search: self.search.domains_only(), pod: Some(pod) })
            }
            name => {
                let expect = self.expect.get(name).cloned().unwrap_or_default();
                let query = of(Arc::clone(&question.name), expect);
                Some(Asked { query, search: self.search.clone(), pod: None })
            }
        }
    }
}

/// A question as it is carried out.
struct Asked {
    query: Query,
    search: SearchList,
    pod: Option<NamedPod>,
}

/// An [`Asking`] that a reload replaces.
pub type SharedAsking = Arc<RwLock<Arc<Asking>>>;

/// A question that was asked, and all that its server said.
#[derive(Debug)]
pub struct Answered {
    /// The question.
    pub question: Arc<Question>,
    /// Whose name it was, if it was a pod's.
    pub pod: Option<NamedPod>,
    /// What came of it.
    pub answer: Answer,
}

/// Carries out errands. What name servers say goes to whoever keeps the names, what became of each errand back to the
/// driver.
#[derive(Debug)]
pub struct Runner {
    errands: Errands<Done>,
    refused: VecDeque<Done>,
    prober: Arc<Prober>,
    asking: SharedAsking,
    rounds: Rounds,
    answers: UnboundedSender<Answered>,
    lists: Arc<Lists>,
}

impl Runner {
    /// Starts the errands' thread. Questions about pods take these in turn.
    ///
    /// # Errors
    /// The thread's or its runtime's.
    pub fn start(
        asking: SharedAsking,
        pods: PodNames,
        answers: UnboundedSender<Answered>,
        lists: Arc<Lists>,
    ) -> io::Result<Self> {
        let (errands, prober) = (Errands::start(AT_ONCE)?, Arc::new(Prober::new()));
        let (refused, rounds) = (VecDeque::new(), Rounds::new(pods));
        Ok(Self { errands, refused, prober, asking, rounds, answers, lists })
    }
}

impl driver::Errands for Runner {
    fn connect(&mut self, connect: Connect) {
        let errand = async move {
            let ended = connect::connect(connect.to, connect.timeout).await;
            Done::Connected(connect.probe, connected(&ended))
        };
        if self.errands.run(errand).is_err() {
            let now = clock::now();
            let end = ConnectEnd::NotSent(SendError::QueueFull);
            let connected = Connected { began: now, ended: now, end };
            self.refused.push_back(Done::Connected(connect.probe, connected));
        }
    }

    fn ask(&mut self, id: QuestionId, planned: &PlannedQuestion) {
        // Whoever writes only replaces an Arc, so nothing is ever half written.
        let asking = Arc::clone(&self.asking.read().unwrap_or_else(PoisonError::into_inner));
        let (prober, answers) = (Arc::clone(&self.prober), self.answers.clone());
        let question = Arc::clone(&planned.question);
        let Some(Asked { query, search, pod }) = asking.asked(&question, &mut self.rounds) else {
            // The last pod left since this was planned.
            return self.refused.push_back(Done::Queried(id, QueryResult::NotSent));
        };
        let errand = async move {
            let answer = prober.ask(&query, &search).await;
            let result = answer.result;
            // Nobody listens only while the agent ends.
            let _ = answers.send(Answered { question, pod, answer });
            Done::Queried(id, result)
        };
        if self.errands.run(errand).is_err() {
            self.refused.push_back(Done::Queried(id, QueryResult::NotSent));
        }
    }

    fn fetch(&mut self, id: FetchId, planned: &PlannedFetch) {
        let (lists, planned) = (Arc::clone(&self.lists), planned.clone());
        let errand = async move { Done::Fetched(id, lists.fetch(&planned).await) };
        if self.errands.run(errand).is_err() {
            self.refused.push_back(Done::Fetched(id, Fetched::failed(FetchResult::NotSent)));
        }
    }

    fn next_done(&mut self) -> Option<Done> {
        self.refused.pop_front().or_else(|| self.errands.finished().next())
    }
}

fn connected(ended: &Ended) -> Connected {
    let end = match ended.end {
        End::Connected => ConnectEnd::Accepted,
        End::Refused => ConnectEnd::Refused,
        End::Lost => ConnectEnd::TimedOut,
        End::Unreachable(reason) => ConnectEnd::Unreachable(reason),
        End::NotSent(error) => ConnectEnd::NotSent(error),
        End::Unclear => ConnectEnd::Unclear,
    };
    Connected { began: ended.started, ended: ended.ended, end }
}
