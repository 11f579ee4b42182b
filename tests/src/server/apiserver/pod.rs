//! What a pod of the agents has of its cluster: the files and variables by which it asks the API server, and who it is.

use super::objects::Agent;
use super::{ApiServer, NAMESPACE, PORT};
use crate::agent::Launch;
use crate::error::LabError;
use crate::host::Host;
use std::path::Path;

/// Where kubelets put what proves who a pod is, in the host's own `/run`.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

impl ApiServer {
    /// Gives a host the files of the agents' account, as its kubelet would: a token that is valid now, and the authority
    /// that proves this server.
    fn equip(&self, host: &Host) -> Result<(), LabError> {
        let folder = Path::new(ACCOUNT);
        host.run(&format!("mkdir -p {ACCOUNT}"))?;
        host.write_file(&folder.join("token"), self.token()?.as_bytes(), 0o600)?;
        host.write_file(&folder.join("ca.crt"), &self.authority()?, 0o600)
    }

    /// The variables that tell each pod where this server is.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [("KUBERNETES_SERVICE_HOST", self.address.to_string()), ("KUBERNETES_SERVICE_PORT", PORT.to_string())]
    }

    /// An agent in a host as its pod starts it. The host gets the files of its account.
    pub fn launch<'a>(&self, host: &'a Host, agent: &Agent) -> Result<Launch<'a>, LabError> {
        self.equip(host)?;
        let Agent { node, uid, address } = agent.clone();
        let identity = [
            ("NODE_NAME", node),
            ("POD_NAME", agent.pod()),
            ("POD_NAMESPACE", NAMESPACE.to_owned()),
            ("POD_UID", uid),
            ("POD_IPS", address.clone()),
            ("HOST_IPS", address),
        ];
        let variables = self.variables().into_iter().chain(identity);
        Ok(variables.fold(Launch::on(host), |launch, (name, value)| launch.variable(name, &value)))
    }
}
