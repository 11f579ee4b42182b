//! Which names are asked for a name as written: the search list of the stub resolver (`resolv.conf(5)`).

use super::{Meaning, QueryResult};

/// The most dots that a resolver lets `ndots` ask for (`resolv.conf(5)`).
pub const MAX_NDOTS: u32 = 15;

/// The domains that are tried behind a name, and how many dots make it be tried as it is first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchList {
    domains: Vec<String>,
    ndots: u32,
    /// Whether a name is also tried as it is.
    as_written: bool,
}

impl Default for SearchList {
    /// No domains, and the resolver's default of one dot.
    fn default() -> Self {
        Self::new(Vec::<String>::new(), 1)
    }
}

/// Where a candidate comes from. The text form is a metric label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// The name as it is written.
    AsWritten,
    /// The name with a domain of the search list behind it.
    Searched,
}

impl Form {
    /// Both forms.
    pub const ALL: [Self; 2] = [Self::AsWritten, Self::Searched];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AsWritten => "as_written",
            Self::Searched => "searched",
        }
    }
}

/// One fully qualified name to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The name, with its final dot.
    pub name: String,
    /// Where it comes from.
    pub form: Form,
}

impl SearchList {
    /// A list in the order of trial. Dots at the ends of domains do not matter; an empty domain is the root.
    pub fn new(domains: impl IntoIterator<Item = impl AsRef<str>>, ndots: u32) -> Self {
        let domains = domains.into_iter().map(|each| each.as_ref().trim_matches('.').to_owned()).collect();
        Self { domains, ndots: ndots.min(MAX_NDOTS), as_written: true }
    }

    /// The same list for names that nobody outside is to be asked for: none is tried as it is.
    #[must_use]
    pub fn domains_only(&self) -> Self {
        Self { as_written: false, ..self.clone() }
    }

    /// The names to ask for in order, each once: with a final dot the name alone; with `ndots` dots the name, then
    /// the list; else the list, then the name.
    pub fn candidates(&self, written: &str) -> Vec<Candidate> {
        let as_written =
            Candidate { name: format!("{}.", written.trim_end_matches('.')), form: Form::AsWritten };
        if written.ends_with('.') {
            return if self.as_written { vec![as_written] } else { Vec::new() };
        }
        let dots = written.bytes().filter(|byte| *byte == b'.').count();
        let searched = self.domains.iter().map(|domain| match domain.as_str() {
            "" => as_written.clone(),
            domain => Candidate { name: format!("{written}.{domain}."), form: Form::Searched },
        });
        let mut candidates: Vec<Candidate> = Vec::with_capacity(self.domains.len() + 1);
        let first = (dots >= self.ndots as usize).then(|| as_written.clone());
        for candidate in first.into_iter().chain(searched).chain([as_written.clone()]) {
            let is_wanted = self.as_written || candidate.form == Form::Searched;
            if is_wanted && !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        candidates
    }
}

/// Whether a search goes on after this result.
///
/// It goes on where the resolver's does: the name does not exist, or the server failed on it. A name that exists ends
/// it, even without such a record: its other family is a question of its own, and a further candidate would be another
/// host. Silence ends it too, since a silent server would be waited for once for each candidate.
pub const fn goes_on_after(result: QueryResult) -> bool {
    match result {
        QueryResult::NxDomain | QueryResult::ServFail => true,
        QueryResult::NoError
        | QueryResult::NoData
        | QueryResult::Refused
        | QueryResult::OtherRcode
        | QueryResult::Malformed
        | QueryResult::Mismatch
        | QueryResult::Timeout
        | QueryResult::Unreachable
        | QueryResult::NotSent => false,
    }
}

/// The result of a whole search from those of its candidates in order: the last one's, which ended it. But a later
/// "there is none" does not hide that the server failed on an earlier candidate, which may be the one that has
/// addresses. Without any candidate nothing was sent.
pub fn outcome(results: impl IntoIterator<Item = QueryResult>) -> QueryResult {
    let mut outcome = QueryResult::NotSent;
    let mut failed = false;
    for result in results {
        failed |= result == QueryResult::ServFail;
        outcome = result;
    }
    if failed && outcome.meaning() == Meaning::NoAddress { QueryResult::ServFail } else { outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_those_of_the_stub_resolver() {
        let cluster = ["ns.svc.cluster.local", "svc.cluster.local.", "cluster.local"];
        let cases: [(&[&str], u32, &str, &[&str]); 9] = [
            (&[], 1, "host", &["host."]),
            (&["a.test", "b.test"], 1, "host", &["host.a.test.", "host.b.test.", "host."]),
            (&["a.test", "b.test"], 1, "www.host", &["www.host.", "www.host.a.test.", "www.host.b.test."]),
            (&["a.test"], 2, "www.host", &["www.host.a.test.", "www.host."]),
            (&["a.test"], 0, "host", &["host.", "host.a.test."]),
            (&["a.test"], 5, "host.", &["host."]),
            (&["."], 1, "host", &["host."]),
            (&["a.test", "a.test"], 1, "host", &["host.a.test.", "host."]),
            (
                &cluster,
                5,
                "kube-dns.kube-system",
                &[
                    "kube-dns.kube-system.ns.svc.cluster.local.",
                    "kube-dns.kube-system.svc.cluster.local.",
                    "kube-dns.kube-system.cluster.local.",
                    "kube-dns.kube-system.",
                ],
            ),
        ];
        for (domains, ndots, written, expected) in cases {
            let candidates = SearchList::new(domains, ndots).candidates(written);
            let names: Vec<_> = candidates.iter().map(|each| each.name.as_str()).collect();
            assert_eq!(names, expected, "{written} in {domains:?} with ndots {ndots}");
            for candidate in candidates {
                let searched = candidate.name.trim_end_matches('.') != written.trim_end_matches('.');
                assert_eq!(candidate.form == Form::Searched, searched);
            }
        }
    }

    #[test]
    fn a_name_that_nobody_outside_is_asked_for_is_tried_in_the_domains_alone() {
        let list = SearchList::new(["a.test", ".", "b.test"], 1).domains_only();
        for written in ["pod-x", "pod.x"] {
            let names: Vec<_> = list.candidates(written).into_iter().map(|each| each.name).collect();
            assert_eq!(names, [format!("{written}.a.test."), format!("{written}.b.test.")]);
        }
        assert_eq!(list.candidates("absolute."), []);
    }

    #[test]
    fn more_dots_than_resolvers_allow_are_asked_for_in_vain() {
        let list = SearchList::new(["test"], 99);
        let dots = vec!["a"; 16].join(".");
        assert_eq!(list.candidates(&dots)[0].form, Form::AsWritten);
    }

    #[test]
    fn a_failure_is_not_hidden_by_names_that_do_not_exist() {
        use QueryResult::{NoData, NoError, NotSent, NxDomain, ServFail, Timeout};
        let cases: [(&[QueryResult], QueryResult); 7] = [
            (&[], NotSent),
            (&[NxDomain, NxDomain], NxDomain),
            (&[NxDomain, NoError], NoError),
            (&[ServFail, NxDomain], ServFail),
            (&[ServFail, NoError], NoError),
            (&[ServFail, NxDomain, NoData], ServFail),
            (&[ServFail, Timeout], Timeout),
        ];
        for (results, expected) in cases {
            assert_eq!(outcome(results.iter().copied()), expected, "{results:?}");
        }
    }
}
