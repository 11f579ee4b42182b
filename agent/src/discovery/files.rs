//! Pods without Kubernetes: a file of Pod manifests, looked at each second.
//!
//! The file has Pods as `kubectl get pods -o yaml` prints them, or written by hand: YAML documents, each a Pod or a
//! `List` of them. What the kubelet else fills in may be left out: without `status.phase` a pod runs, without
//! `metadata.uid` its namespace and name stand for it, without `metadata.namespace` it is in `default`. Its address must
//! be there, in `status.podIP` or `status.podIPs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podsonar_core::config::PodChoice;
use podsonar_core::time::Instant;
use serde_json::{Map, Value, json};
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval};

use super::pods::{Index, OwnPods, SeenPod};
use crate::clock;
use crate::reload::File;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A larger file is a mistake.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Why a file of manifests cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Larger than any node's pods.
    #[error("larger than {MAX_FILE} bytes; is it the right file?")]
    TooLarge,
    /// It is no YAML.
    #[error("not YAML: {0}")]
    Yaml(String),
    /// Something in it is no Pod.
    #[error("document {0} is neither a Pod nor a List of Pods")]
    NotPod(usize),
    /// A Pod with a field of the wrong type.
    #[error("the Pod {name}: {problem}")]
    Pod {
        /// Its namespace and name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// Follows the pods of a file for ever; without a file there are none. What cannot be read changes nothing, and the age
/// of what is known grows.
pub async fn follow(path: Option<PathBuf>, mut choice: Receiver<PodChoice>, publish: Sender<OwnPods>) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut read: Option<File> = None;
    let mut complained: Option<File> = None;
    let mut index = Index::new("".into(), choice.borrow().clone());
    loop {
        look.tick().await;
        let Some(path) = &path else {
            publish.send_if_modified(|known| {
                let news = !known.health.is_listed();
                known.health.refreshed(clock::now());
                news
            });
            continue;
        };
        let file = File::look(path);
        let chosen = choice.has_changed().unwrap_or(false);
        let pods = if read.as_ref() == Some(&file) && !chosen {
            None
        } else {
            match manifests(path) {
                Ok(seen) => {
                    index.choose(choice.borrow_and_update().clone());
                    enter(&mut index, &seen, read.is_some().then(clock::now));
                    read = Some(file);
                    complained = None;
                    Some(index.pods())
                }
                Err(error) => {
                    if complained.as_ref() != Some(&file) {
                        tracing::error!(file = %path.display(), %error, "pods.file cannot be used; the pods stay as they were");
                        complained = Some(file);
                    }
                    publish.send_modify(|known| known.health.failed());
                    continue;
                }
            }
        };
        publish.send_if_modified(|known| {
            let mut news = !known.health.is_whole();
            known.health.refreshed(clock::now());
            if let Some(pods) = pods.filter(|pods| *known.pods != **pods) {
                known.pods = pods.into();
                news = true;
            }
            news
        });
    }
}

/// Enters the pods of a file; `now` unless it is the first reading, of which nobody knows since when they run.
fn enter(index: &mut Index, seen: &[SeenPod], now: Option<Instant>) {
    index.begin();
    for pod in seen {
        match now {
            Some(now) => index.include_as_new(pod, now),
            None => index.include(pod),
        }
    }
    index.complete();
}

/// The pods of a file.
///
/// # Errors
/// What is wrong with it, the first thing.
pub fn manifests(path: &Path) -> Result<Vec<SeenPod>, ManifestError> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(ManifestError::TooLarge);
    }
    parse(&fs::read_to_string(path)?)
}

fn parse(text: &str) -> Result<Vec<SeenPod>, ManifestError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ManifestError::Yaml(error.to_string()))?;
    let mut pods = Vec::new();
    for (number, document) in (1..).zip(documents.into_iter().filter(|document| !document.is_null())) {
        let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let items = match (kind.as_str(), document) {
            ("Pod", pod @ Value::Object(_)) => vec![pod],
            ("List" | "PodList", Value::Object(mut list)) => match list.remove("items") {
                Some(Value::Array(items)) => items,
                Some(_) | None => return Err(ManifestError::NotPod(number)),
            },
            _ => return Err(ManifestError::NotPod(number)),
        };
        for item in items {
            let Value::Object(pod) = item else { return Err(ManifestError::NotPod(number)) };
            pods.push(complete(pod)?);
        }
    }
    Ok(pods)
}

/// Fills in what only a cluster knows.
fn complete(mut pod: Map<String, Value>) -> Result<SeenPod, ManifestError> {
    let text = |pod: &Map<String, Value>, part: &str| {
        let text = pod.get("metadata").and_then(|metadata| metadata.get(part)).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let namespace = Some(text(&pod, "namespace")).filter(|text| !text.is_empty()).unwrap_or("default".into());
    let name = format!("{namespace}/{}", text(&pod, "name"));
    for (part, value) in [("namespace", &namespace), ("uid", &name)] {
        if text(&pod, part).is_empty()
            && let Some(Value::Object(metadata)) = pod.get_mut("metadata")
        {
            metadata.insert(part.into(), json!(value));
        }
    }
    if let Some(Value::Object(status)) = pod.get_mut("status") {
        status.entry("phase").or_insert(json!("Running"));
    }
    serde_json::from_value(Value::Object(pod))
        .map_err(|error| ManifestError::Pod { name, problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_written_by_hand_run_and_have_a_uid() {
        let text = "kind: Pod\nmetadata: {name: web-1, labels: {app: web}}\nspec: {containers: [{ports: [{containerPort: 80}]}]}\n\
                    status: {podIP: 10.1.0.5}\n---\nkind: List\nitems:\n- kind: Pod\n  metadata: {name: db, namespace: data, uid: u-1}\n  \
                    status: {podIPs: [{ip: 10.1.0.6}, {ip: 'fd00::6'}]}\n- metadata: {name: gone}\n  status: {podIP: 10.1.0.7, phase: Failed}\n";
        let mut index = Index::new("".into(), PodChoice::default());
        enter(&mut index, &parse(text).unwrap(), None);
        let pods: Vec<_> = index
            .pods()
            .into_iter()
            .map(|pod| (pod.id.uid.to_string(), pod.addresses.len(), pod.port))
            .collect();
        assert_eq!(pods, [("default/web-1".into(), 1, Some(80)), ("u-1".into(), 2, None)]);
    }

    #[test]
    fn a_pod_that_a_later_reading_has_is_new_and_one_of_the_first_is_not() {
        let pod = |name: &str| {
            format!("---\nkind: Pod\nmetadata: {{name: {name}}}\nstatus: {{podIP: 10.1.0.{}}}\n", name.len())
        };
        let mut index = Index::new("".into(), PodChoice::default());
        let read = |index: &mut Index, names: &[&str], seconds: Option<u64>| {
            let text: String = names.iter().copied().map(pod).collect();
            let now = seconds.map(|seconds| Instant::from_nanos(seconds * 1_000_000_000));
            enter(index, &parse(&text).unwrap(), now);
            index.pods().into_iter().map(|pod| pod.running_since.map(Instant::as_nanos)).collect::<Vec<_>>()
        };
        assert_eq!(read(&mut index, &["a"], None), [None]);
        assert_eq!(read(&mut index, &["a", "bb"], Some(5)), [None, Some(5_000_000_000)]);
        assert_eq!(read(&mut index, &["a", "bb"], Some(9)), [None, Some(5_000_000_000)], "it was new once");
        assert_eq!(read(&mut index, &["bb"], Some(10)), [Some(5_000_000_000)]);
        assert_eq!(read(&mut index, &["a", "bb"], Some(11)), [Some(11_000_000_000), Some(5_000_000_000)]);
    }

    #[test]
    fn what_is_no_pod_is_told_with_its_place() {
        for (text, told) in [
            ("kind: Service\nmetadata: {name: a}\n", "document 1 is neither a Pod nor a List of Pods"),
            (
                "kind: Pod\nmetadata: {name: a}\n---\nhello\n",
                "document 2 is neither a Pod nor a List of Pods",
            ),
            ("kind: List\nitems: 5\n", "document 1 is neither a Pod nor a List of Pods"),
            ("kind: Pod\nmetadata: {name: a}\nstatus: {podIP: [1]}\n", "the Pod default/a: invalid type"),
            ("kind: [", "not YAML: "),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }

    #[test]
    fn an_empty_file_has_no_pods() {
        assert!(parse("").unwrap().is_empty());
        assert!(parse("# nothing\n").unwrap().is_empty());
    }
}
