//! The end: said to peers first, then all in order.

use std::io;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant as Deadline, timeout_at};

use super::{Agent, RunError, SHUTDOWN};

/// Beyond the time in which each peer fetches once: their fetches are not all on time.
const FAREWELL: Duration = Duration::from_millis(500);

impl Agent {
    /// Tells peers that this agent ends. Returns how long it takes until they know; `None`: there are none.
    pub(super) fn leave(&mut self) -> Option<Duration> {
        let mesh = self.mesh.as_mut()?;
        mesh.leave();
        self.look_at_mesh();
        let peers = !self.ordered.duties.fetches.is_empty();
        peers.then(|| self.plan.probing().mesh.fetch_interval + FAREWELL)
    }

    /// Ends everything in order: no new probes, the answers in flight, the last scrapes, the record.
    pub(super) async fn stop(self) -> Result<(), RunError> {
        let Self { driver, http, mesh, stop_http, writer, .. } = self;
        let deadline = Deadline::now() + SHUTDOWN;
        let in_time = |_| RunError::Shutdown;
        let driven = timeout_at(deadline, spawn_blocking(move || driver.stop())).await.map_err(in_time)?;
        // The server may be gone already; then there is nothing to stop.
        let _ = stop_http.send(true);
        let served = timeout_at(deadline, http).await.map_err(in_time)?;
        if let Some(mesh) = mesh {
            timeout_at(deadline, mesh.ended()).await.map_err(in_time)?.map_err(|_| RunError::HttpEnded)?;
        }
        if let Some(writer) = writer {
            let written =
                timeout_at(deadline, spawn_blocking(move || writer.finish())).await.map_err(in_time)?;
            written.map_err(io::Error::other)?.map_err(RunError::Write)?;
        }
        match driven {
            Ok(Ok(())) => served.map_err(|_| RunError::HttpEnded),
            Ok(Err(_)) | Err(_) => Err(RunError::DriverEnded),
        }
    }
}
