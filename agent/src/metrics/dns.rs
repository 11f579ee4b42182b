//! Name servers.

use podsonar_core::engine::Question;
use podsonar_core::query::QueryResult;

/// What is counted of name servers.
#[derive(Debug, Default)]
pub(crate) struct DnsMetrics {}

impl DnsMetrics {
    pub(crate) fn count(&self, _question: &Question, _result: QueryResult) {}
}
