//! Files and environment, read into what was written.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use podsonar_core::config::{At, Fault, Host, Origin, Problem, Resolver, Written, setting};

use super::{Read, Sources};
use crate::reload::File;

/// A larger file is a mistake: 100,000 targets take less.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What this machine says about name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// Reads everything, the strongest first.
pub(super) fn read(sources: &Sources) -> Read {
    let Sources { flags, environment } = sources;
    let mut read = Read {
        written: Written::default(),
        host: Host { name: environment.host_name.clone(), ..Host::default() },
        files: Vec::new(),
        resolv_conf: File::look(Path::new(RESOLV_CONF)),
        problems: Vec::new(),
    };
    flags.write(&mut read.written);
    let variables =
        [(&setting::SOURCE, &environment.node_name), (&setting::LOG_LEVEL, &environment.log_level)];
    for (setting, value) in variables {
        if let (Some(value), Some(variable)) = (value, setting.variable) {
            read.written.set(setting, Origin::Variable(variable), value);
        }
    }
    let by_flag = flags.config.clone().map(|path| (path, Origin::Flag("--config")));
    let by_variable = || environment.config.clone().map(|path| (path, Origin::Variable("PODSONAR_CONFIG")));
    if let Some((path, origin)) = by_flag.or_else(by_variable)
        && let Some(text) = read.file(&path, At::new("", origin))
        && let Err(problems) = read.written.read(&path.display().to_string(), &text)
    {
        read.problems.extend(problems);
    }
    if let Some((path, origin)) = read.written.get(&setting::TARGETS_FILE) {
        let at = At::new(setting::TARGETS_FILE.key, origin);
        if let Some(text) = read.file(Path::new(&path), at) {
            read.written.read_targets(&path, &text);
        }
    }
    // As resolv.conf(5) has it, a missing file is like an empty one, and lines that nobody understands are ignored.
    if let Ok(bytes) = fs::read(RESOLV_CONF) {
        read.host.resolver = resolver(&bytes);
    }
    read
}

impl Read {
    /// The text of a file; notes what keeps it from being read.
    fn file(&mut self, path: &Path, at: At) -> Option<String> {
        // Its identity first: what changes while it is read is seen at the next look.
        self.files.push(File::look(path));
        match text_of(path) {
            Ok(text) => Some(text),
            Err(fault) => {
                let text = Some(path.display().to_string());
                self.problems.push(Problem { at: Some(at), text, fault });
                None
            }
        }
    }
}

fn text_of(path: &Path) -> Result<String, Fault> {
    let read = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error: io::Error| Fault::Unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Fault::TooLarge(MAX_FILE / 1024 / 1024));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
        Fault::NotText(lines + 1)
    })
}

/// What a resolv.conf says.
fn resolver(bytes: &[u8]) -> Resolver {
    let (config, _) = resolv_conf::Config::parse_with_errors(bytes);
    let at_port = |server| SocketAddr::new(IpAddr::from(server), DNS_PORT);
    let servers: Vec<_> = config.nameservers.iter().map(at_port).collect();
    let search = config.get_last_search_or_domain().map(ToOwned::to_owned).collect();
    let servers = if servers.is_empty() { Resolver::default().servers } else { servers };
    Resolver { servers, search, ndots: u8::try_from(config.ndots).unwrap_or(u8::MAX).min(15) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_resolver_does() {
        let text = "# kubelet\nnameserver 10.96.0.10\nnameserver fd00::a\nunheard of\n\
                    search default.svc.cluster.local svc.cluster.local\noptions ndots:5 edns0\n";
        let found = resolver(text.as_bytes());
        assert_eq!(found.servers, ["10.96.0.10:53".parse().unwrap(), "[fd00::a]:53".parse().unwrap()]);
        assert_eq!(found.search, ["default.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!(found.ndots, 5);
        assert_eq!(resolver(b""), Resolver::default());
    }
}
