//! What `podsonar-lab` does, one file for each verb.

pub(crate) mod cluster;
pub(crate) mod mesh;
pub(crate) mod pictures;
