//! What takes time and is not the driver's to wait for: run on a thread of its own, so that neither a scrape nor a
//! tick delays it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How many errands may be under way at once.
pub const AT_ONCE: usize = 4_096;

type Errand<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Too many errands are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many errands are under way")]
pub struct Busy;

/// A thread that runs errands, and what they brought. Dropping it abandons those under way.
///
/// Its owner alone counts: one that ended stays under way until it was [taken](Self::finished). So neither the requests
/// nor the results can pile up.
#[derive(Debug)]
pub struct Errands<T> {
    requests: Option<UnboundedSender<Errand<T>>>,
    results: Receiver<T>,
    thread: Option<JoinHandle<()>>,
    under_way: usize,
    at_once: usize,
}

impl<T: Send + 'static> Errands<T> {
    /// Starts the thread, which runs up to `at_once` errands at once.
    ///
    /// # Errors
    /// The runtime or the thread cannot be had.
    pub fn start(at_once: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let (requests, inbox) = unbounded_channel();
        let (outbox, results) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("errands".into())
            .spawn(move || runtime.block_on(serve(inbox, outbox)))?;
        Ok(Self { requests: Some(requests), results, thread: Some(thread), under_way: 0, at_once })
    }

    /// Sends somebody off. Returns at once; what comes of it is among the [`finished`](Self::finished) ones.
    ///
    /// # Errors
    /// [`Busy`] if too many are under way.
    pub fn run(&mut self, errand: impl Future<Output = T> + Send + 'static) -> Result<(), Busy> {
        let requests = self.requests.as_ref().filter(|_| self.under_way < self.at_once).ok_or(Busy)?;
        requests.send(Box::pin(errand)).map_err(|_| Busy)?;
        self.under_way += 1;
        Ok(())
    }

    /// What has come back since it was last asked; never waits.
    pub fn finished(&mut self) -> impl Iterator<Item = T> {
        let Self { results, under_way, .. } = self;
        results.try_iter().inspect(|_| *under_way = under_way.saturating_sub(1))
    }
}

impl<T> Drop for Errands<T> {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

async fn serve<T: Send + 'static>(mut requests: UnboundedReceiver<Errand<T>>, results: Sender<T>) {
    while let Some(errand) = requests.recv().await {
        let results = results.clone();
        tokio::spawn(async move {
            // Nobody waits for it only when all is being abandoned.
            let _ = results.send(errand.await);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn errands_run_at_the_same_time_and_come_back_as_they_end() {
        let mut errands = Errands::start(10).unwrap();
        let (release, released) = oneshot::channel();
        errands.run(async move { released.await.unwrap() }).unwrap();
        errands.run(async move { release.send("slow").map_or("lost", |()| "quick") }).unwrap();
        // The first can end only because the second ran meanwhile.
        let mut seen = [next(&mut errands), next(&mut errands)];
        seen.sort_unstable();
        assert_eq!(seen, ["quick", "slow"]);
    }

    #[test]
    fn too_many_at_once_are_refused_until_one_was_taken() {
        let mut errands = Errands::start(2).unwrap();
        errands.run(ready(1)).unwrap();
        errands.run(pending()).unwrap();
        assert_eq!(errands.run(ready(2)), Err(Busy));
        assert_eq!(next(&mut errands), 1);
        errands.run(ready(3)).unwrap();
        assert_eq!(next(&mut errands), 3);
    }

    #[test]
    fn dropping_abandons_what_is_under_way() {
        let (held, gone) = oneshot::channel::<()>();
        let mut errands = Errands::start(1).unwrap();
        errands
            .run(async move {
                let _held = held;
                pending::<()>().await;
            })
            .unwrap();
        drop::<Errands<()>>(errands);
        assert!(gone.blocking_recv().is_err());
    }

    fn next<T: Send + 'static>(errands: &mut Errands<T>) -> T {
        loop {
            if let Some(result) = errands.finished().next() {
                return result;
            }
            thread::yield_now();
        }
    }
}
