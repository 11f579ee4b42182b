//! Slices fetched one by one: those of a node, or those whose version has changed.

use kube::api::{GetParams, ListParams, VersionMatch};
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::index::Index;
use super::slice::{Slice, SliceName};
use crate::discovery::api::Api;
use crate::discovery::watch::{Scope, Trouble, TroubleKind, in_time, no_client, no_request};

/// Fetches slices.
#[derive(Debug)]
pub(super) struct Fetch {
    api: Api,
    scope: Scope,
}

/// A list of slices without what is in them.
#[derive(Debug, Deserialize)]
struct Names {
    items: Option<Vec<SliceName>>,
}

impl Fetch {
    pub(super) fn new(api: Api, scope: Scope) -> Self {
        Self { api, scope }
    }

    /// Fetches the slices that name a node; if none does, those that have changed.
    pub(super) async fn node(&self, index: &mut Index, node: &str) -> Result<(), Trouble> {
        let slices: Vec<String> = index.slices_of(node).map(str::to_owned).collect();
        if slices.is_empty() {
            return self.changes(index).await;
        }
        for name in slices {
            self.slice(index, &name).await?;
        }
        Ok(())
    }

    /// Fetches the slices that are new or have changed, and forgets those that are gone.
    pub(super) async fn changes(&self, index: &mut Index) -> Result<(), Trouble> {
        let params = ListParams {
            label_selector: Some(self.scope.labels.clone()),
            // From the server's cache: what it lacks the next list has.
            version_match: Some(VersionMatch::NotOlderThan),
            resource_version: Some("0".into()),
            ..ListParams::default()
        };
        let request = Request::new(self.scope.path.as_str()).list_metadata(&params);
        let names: Names = self.ask(request).await?;
        let names = names.items.unwrap_or_default();
        for name in &names {
            if index.version(name.name()) != Some(name.version()) {
                self.slice(index, name.name()).await?;
            }
        }
        index.retain(|known| names.iter().any(|name| name.name() == known));
        Ok(())
    }

    /// Fetches one slice.
    async fn slice(&self, index: &mut Index, name: &str) -> Result<(), Trouble> {
        let request = Request::new(self.scope.path.as_str()).get(name, &GetParams::default());
        match self.ask::<Slice>(request).await {
            Ok(slice) => index.apply(&slice),
            Err(trouble) if trouble.kind == TroubleKind::Missing => index.delete(name),
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, Trouble> {
        let request = request.map_err(|error| no_request(&error))?;
        let client = self.api.client().map_err(|error| no_client(&error))?;
        in_time(self.api.patience().answer, client.request(request)).await
    }
}
