//! A new configuration for a running agent: on SIGHUP, or when a file that it was read from has changed.
//!
//! Everything is read and validated first, on another thread; then the new [`Probing`] is handed over as a whole. One
//! that is wrong changes nothing, and the log and the metrics say so. What only a restart can change stays as it is.

mod watch;

use std::io;
use std::sync::Arc;

use podsonar_core::config::setting::{self, Setting};
use podsonar_core::config::{Probing, Problem, Written};
use podsonar_core::wire::Channel;
use tokio::task::{JoinHandle, spawn_blocking};

pub use self::watch::{File, Watcher, Why};

use crate::metrics::state::Metrics;
use crate::plan;
use crate::settings::{Read, Sources};

/// Problems that one failed reload writes to the log; the rest are counted there.
const LOGGED_PROBLEMS: usize = 50;

/// Reads the sources again when there is a reason to.
#[derive(Debug)]
pub struct Reloader {
    sources: Arc<Sources>,
    /// What the agent was started with: what only a restart changes stays like this.
    running: Arc<Written>,
    watcher: Watcher,
    loading: Option<JoinHandle<Loaded>>,
}

/// What a further reading came to.
#[derive(Debug)]
pub struct Loaded {
    files: Vec<File>,
    /// The new configuration and the settings that need a restart, or all problems.
    pub result: Result<(Probing, Vec<&'static Setting>), Vec<Problem>>,
}

/// Reads and validates everything anew, for an agent that was started with `running`.
pub fn load(sources: &Sources, running: &Written) -> Loaded {
    let mut read = sources.read();
    let fixed = setting::ALL.iter().copied().filter(|setting| !setting.live);
    let kept: Vec<_> = fixed.filter(|setting| read.written.keep(setting, running)).collect();
    let result = read.resolve();
    let files = watched(&read, result.as_ref().ok().map(|configuration| &configuration.probing));
    Loaded { files, result: result.map(|configuration| (configuration.probing, kept)) }
}

/// The files that matter: resolv.conf only if there are names to ask for.
fn watched(read: &Read, probing: Option<&Probing>) -> Vec<File> {
    let asks = probing.is_none_or(|probing| !probing.dns.names.is_empty());
    read.files.iter().chain(asks.then_some(&read.resolv_conf)).cloned().collect()
}

impl Reloader {
    /// From now on SIGHUP no longer ends the process.
    ///
    /// # Errors
    /// The signal's.
    pub fn new(sources: Sources, read: Read, probing: &Probing) -> io::Result<Self> {
        let watcher = Watcher::new(watched(&read, Some(probing)))?;
        let (sources, running) = (Arc::new(sources), Arc::new(read.written.without_targets()));
        Ok(Self { sources, running, watcher, loading: None })
    }

    /// Waits until there is a new valid configuration; `open` are the channels that have a socket. What fails on the
    /// way is told in the log and in `metrics`. Dropping the future loses nothing.
    pub async fn next(&mut self, metrics: &Metrics, open: &[Channel]) -> Probing {
        loop {
            let loading = if let Some(loading) = &mut self.loading {
                loading
            } else {
                let why = self.watcher.changed().await;
                tracing::info!(%why, "reading the configuration again");
                let (sources, running) = (Arc::clone(&self.sources), Arc::clone(&self.running));
                self.loading.insert(spawn_blocking(move || load(&sources, &running)))
            };
            let loaded = loading.await;
            self.loading = None;
            match loaded {
                Ok(Loaded { files, result }) => {
                    self.watcher.watch(files);
                    match result {
                        Ok((probing, kept)) => {
                            metrics.reloads.succeeded();
                            announce(&probing, &kept, open);
                            return probing;
                        }
                        Err(problems) => {
                            metrics.reloads.failed();
                            complain(&problems);
                        }
                    }
                }
                Err(error) => {
                    metrics.reloads.failed();
                    tracing::error!(%error, "the configuration could not be read; the old one stays in force");
                }
            }
        }
    }
}

fn announce(probing: &Probing, kept: &[&'static Setting], open: &[Channel]) {
    for setting in kept {
        tracing::warn!(setting = setting.key, "needs a restart to change; the old value stays in force");
    }
    for channel in plan::channels(probing).into_iter().filter(|channel| !open.contains(channel)) {
        let (protocol, family) = (channel.protocol.label(), channel.family.label());
        tracing::warn!(
            protocol,
            family,
            "the first such targets need a restart: there is no socket for them"
        );
    }
    tracing::info!(targets = probing.targets(), streams = probing.planned.len(), "configuration reloaded");
}

fn complain(problems: &[Problem]) {
    for problem in problems.iter().take(LOGGED_PROBLEMS) {
        tracing::error!("{problem}");
    }
    tracing::error!(problems = problems.len(), "configuration not reloaded; the old one stays in force");
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::mpsc;

    use clap::Parser;
    use podsonar_core::config::Buckets;
    use podsonar_core::time::WallTime;

    use super::*;
    use crate::metrics::state::Facts;
    use crate::settings::{Cli, Command, Environment, Settings};

    #[tokio::test]
    async fn giving_up_the_wait_loses_no_configuration() {
        let Command::Run(flags) = Cli::parse_from(["podsonar", "run", "--target", "127.0.0.1"]).command
        else {
            panic!("the command is run");
        };
        let environment = Environment { host_name: Some("node".into()), ..Environment::default() };
        let Settings { configuration, read, sources } =
            Settings::load(Sources { flags, environment }).unwrap();
        let mut reloader = Reloader::new(sources, read, &configuration.probing).unwrap();
        let facts = Facts {
            source: "node".into(),
            zone: String::new(),
            version: "0",
            receive_buffers: [None; 4],
            buckets: Buckets::default(),
            max_series: 4_000,
            by_zone: false,
            means: [None; 4],
        };
        let metrics = Metrics::new(facts, WallTime::from_nanos(0));

        let (go, gate) = mpsc::channel::<()>();
        let (sources, running) = (Arc::clone(&reloader.sources), Arc::clone(&reloader.running));
        reloader.loading = Some(spawn_blocking(move || {
            gate.recv().unwrap();
            load(&sources, &running)
        }));
        tokio::select! {
            biased;
            _ = reloader.next(&metrics, &[]) => panic!("nothing is loaded yet"),
            () = ready(()) => {}
        }
        go.send(()).unwrap();
        assert_eq!(reloader.next(&metrics, &[]).await, configuration.probing);
        assert!(reloader.loading.is_none());
    }
}
