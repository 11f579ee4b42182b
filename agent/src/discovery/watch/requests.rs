//! What a watch asks of the API server, and the answers as they come.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::core::{ObjectList, Request, WatchEvent};
use tokio::time::timeout;

use super::trouble::{self, Trouble, TroubleKind};
use super::{Random, Watched};
use crate::discovery::api::{Api, ApiError};

/// For how long the server is asked to watch, so that not all agents come back at once.
const DURATION: (Duration, Duration) = (Duration::from_mins(4), Duration::from_mins(5));

/// Which objects.
#[derive(Debug, Clone)]
pub struct Scope {
    /// For people: `pods`.
    pub what: &'static str,
    /// Their path below the server's.
    pub path: String,
    /// Selects by fields; empty: all.
    pub fields: String,
    /// Selects by labels; empty: all.
    pub labels: String,
}

/// The stream of a watch.
pub(super) type Events<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>> + Send>>;

/// What a stream says next.
pub(super) enum Told<K> {
    /// Something.
    Event(WatchEvent<K>),
    /// It was cut, or what it says makes no sense.
    Failure(Trouble),
    /// It has ended.
    End,
    /// Nothing for too long.
    Silence,
}

/// Waits for what a stream says next. Dropping the future loses nothing.
pub(super) async fn next_of<K>(events: &mut Events<K>, longest: Duration) -> Told<K> {
    match timeout(longest, events.next()).await {
        Ok(Some(Ok(event))) => Told::Event(event),
        Ok(Some(Err(error))) => Told::Failure(Trouble::of_error(&error)),
        Ok(None) => Told::End,
        Err(_) => Told::Silence,
    }
}

/// Begins a watch from a version on; `initial`: with all objects first.
pub(super) async fn open<K: Watched>(
    api: &Api,
    scope: &Scope,
    version: &str,
    random: &mut Random,
    initial: bool,
) -> Result<Events<K>, Trouble> {
    let params = WatchParams {
        label_selector: some(&scope.labels),
        field_selector: some(&scope.fields),
        timeout: u32::try_from(random.between(DURATION.0, DURATION.1).as_secs()).ok(),
        bookmarks: true,
        send_initial_events: initial,
    };
    let request =
        Request::new(scope.path.as_str()).watch(&params, version).map_err(|error| no_request(&error))?;
    let client = api.client().map_err(|error| no_client(&error))?;
    let events = in_time(api.patience().answer, client.request_events::<K>(request)).await?;
    Ok(Box::pin(events))
}

/// Fetches all objects as of a version or later, and the version that they are as of. No page size: with one, the server
/// reads all pods of the cluster from its store.
pub(super) async fn list<K: Watched>(
    api: &Api,
    scope: &Scope,
    version: &str,
) -> Result<(Vec<K>, String), Trouble> {
    let params = ListParams {
        label_selector: some(&scope.labels),
        field_selector: some(&scope.fields),
        version_match: Some(VersionMatch::NotOlderThan),
        resource_version: Some(version.to_owned()),
        ..ListParams::default()
    };
    let request = Request::new(scope.path.as_str()).list(&params).map_err(|error| no_request(&error))?;
    let client = api.client().map_err(|error| no_client(&error))?;
    let list: ObjectList<K> = in_time(api.patience().answer, client.request(request)).await?;
    let version = list.metadata.resource_version.filter(|version| !version.is_empty());
    let version = version.ok_or_else(|| Trouble::new(TroubleKind::Garbled, "a list without a version"))?;
    Ok((list.items, version))
}

/// What a request comes to, if it does so in time.
pub(in crate::discovery) async fn in_time<T>(
    longest: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Trouble> {
    match timeout(longest, request).await {
        Ok(answer) => answer.map_err(|error| Trouble::of_error(&error)),
        Err(_) => Err(Trouble::new(TroubleKind::Silent, format!("no answer within {longest:?}"))),
    }
}

/// There is nobody to ask.
pub(in crate::discovery) fn no_client(error: &ApiError) -> Trouble {
    Trouble::new(TroubleKind::Unreachable, trouble::chain(error))
}

/// What is to be asked makes no request.
pub(in crate::discovery) fn no_request(error: &kube::core::request::Error) -> Trouble {
    Trouble::new(TroubleKind::Refused, error.to_string())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
