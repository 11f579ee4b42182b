//! Files and environment, read into what was written.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use podsonar_core::config::{At, Fault, Host, Origin, Problem, Written, setting};

use super::{Read, Sources};
use crate::discovery::resolv_conf;
use crate::reload::File;

/// A larger file is a mistake: 100,000 targets take less.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Reads everything, the strongest first.
pub(super) fn read(sources: &Sources) -> Read {
    let Sources { flags, environment } = sources;
    let mut read = Read {
        written: Written::default(),
        host: Host {
            name: environment.host_name.clone(),
            downward: environment.downward.clone(),
            ..Host::default()
        },
        files: Vec::new(),
        resolv_conf: File::look(Path::new(resolv_conf::PATH)),
        problems: Vec::new(),
    };
    flags.write(&mut read.written);
    let variables =
        [(&setting::SOURCE, &environment.downward.node_name), (&setting::LOG_LEVEL, &environment.log_level)];
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
    if let Ok(resolver) = resolv_conf::read(Path::new(resolv_conf::PATH)) {
        read.host.resolver = resolver;
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
