//! [`Authority`]: the cluster's certificates and the files with which its parts speak to the API server.

use super::addresses::{API_V4, API_V6, SERVICE_V4};
use crate::error::{Doing, LabError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Signs what the cluster's parts show each other.
pub(super) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, whose certificate is `ca.crt` in the folder, with the API server's `apiserver.crt` and
    /// `apiserver.key`, and `accounts.key` and `accounts.pub`, which sign the tokens of service accounts and prove them.
    pub(super) fn new(folder: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
        let mut parameters = parameters("lab-authority", None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, key()?).map_err(|error| refused(&error))?;
        let authority = Self { folder: folder.to_owned(), issuer };
        authority.write("ca.crt", &authority.issuer.pem())?;
        let accounts = key()?;
        authority.write("accounts.key", &accounts.serialize_pem())?;
        authority.write("accounts.pub", &accounts.public_key_pem())?;
        authority.serving_certificate()?;
        Ok(authority)
    }

    /// A client's file for `kubectl` and its like, `NAME.kubeconfig`, for a user and a group. Returns its path.
    pub(super) fn client(
        &self,
        name: &str,
        user: &str,
        group: &str,
        server: &str,
    ) -> Result<PathBuf, LabError> {
        let mut parameters = parameters(user, Some(group));
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, &parameters)?;
        let path = self.folder.join(format!("{name}.kubeconfig"));
        self.write(&format!("{name}.kubeconfig"), &self.client_file(name, server))?;
        Ok(path)
    }

    /// A file for a client that has a certificate already, by another address of the API server.
    pub(super) fn client_file(&self, name: &str, server: &str) -> String {
        let folder = self.folder.display();
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: lab, cluster: {{server: '{server}', certificate-authority: '{folder}/ca.crt'}}}}]\n\
             users: [{{name: lab, user: {{client-certificate: '{folder}/{name}.crt', client-key: '{folder}/{name}.key'}}}}]\n\
             contexts: [{{name: lab, context: {{cluster: lab, user: lab}}}}]\n\
             current-context: lab\n"
        )
    }

    fn serving_certificate(&self) -> Result<(), LabError> {
        let mut parameters = parameters("kube-apiserver", None);
        let addresses: [IpAddr; 4] =
            [API_V4.into(), API_V6.into(), SERVICE_V4.into(), Ipv4Addr::LOCALHOST.into()];
        parameters.subject_alt_names = addresses.map(SanType::IpAddress).into();
        for name in ["kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
            parameters
                .subject_alt_names
                .push(SanType::DnsName(name.try_into().map_err(|error| refused(&error))?));
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("apiserver", &parameters)
    }

    /// Writes `NAME.crt` and `NAME.key`.
    fn sign(&self, name: &str, parameters: &CertificateParams) -> Result<(), LabError> {
        let key = key()?;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(|error| refused(&error))?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        let path = self.folder.join(name);
        fs::write(&path, text).doing(format!("write {}", path.display()))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn parameters(name: &str, organization: Option<&str>) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        parameters.distinguished_name.push(DnType::OrganizationName, organization);
    }
    parameters
}

fn key() -> Result<KeyPair, LabError> {
    KeyPair::generate().map_err(|error| refused(&error))
}

fn refused(error: &rcgen::Error) -> LabError {
    LabError::Malformed { what: "a certificate", text: error.to_string() }
}
