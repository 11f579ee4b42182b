//! What was written, in all places, not yet understood. The strongest place is asked first: flags, then the
//! environment, then the file; the first value of a setting stays. Targets and names of all places add up.

use std::collections::HashMap;
use std::sync::Arc;

use super::file;
use super::origin::{At, Origin};
use super::problem::Problem;
use super::setting::{Fallback, Kind, Setting};

/// What the user wrote.
#[derive(Debug, Clone, Default)]
pub struct Written {
    pub(super) values: HashMap<&'static str, Given>,
    pub(super) targets: Vec<WrittenTarget>,
    pub(super) names: Vec<WrittenTarget>,
    /// From the targets file.
    pub(super) listed: Vec<WrittenTarget>,
}

/// A setting's value, or its values if it is a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) origin: Origin,
    pub(super) items: Vec<Item>,
}

/// One text and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// A target or name and what is written beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenTarget {
    pub(super) text: String,
    pub(super) at: At,
    pub(super) interval: Option<Item>,
    pub(super) timeout: Option<Item>,
    pub(super) protocols: Option<Given>,
    pub(super) expect: Vec<Item>,
}

impl WrittenTarget {
    pub(super) fn new(text: &str, at: At) -> Self {
        let text = text.trim().to_owned();
        Self { text, at, interval: None, timeout: None, protocols: None, expect: Vec::new() }
    }
}

impl Given {
    /// A value as text; a list has commas between its entries.
    pub(super) fn new(kind: Kind, origin: Origin, text: &str) -> Self {
        let item = |text: &str| Item { text: text.trim().to_owned(), origin: origin.clone() };
        let items = if kind.is_list() { text.split(',').map(item).collect() } else { vec![item(text)] };
        Self { origin, items }
    }

    /// The value as text; a list has commas between its entries.
    pub(super) fn text(&self) -> String {
        let texts: Vec<_> = self.items.iter().map(|item| item.text.as_str()).collect();
        texts.join(",")
    }
}

impl Written {
    /// Notes a value, unless a stronger place has given one. Of targets and names it adds one.
    pub fn set(&mut self, setting: &'static Setting, origin: Origin, text: &str) {
        match setting.kind {
            Kind::Targets => self.targets.push(WrittenTarget::new(text, At::new(setting.key, origin))),
            Kind::Names => self.names.push(WrittenTarget::new(text, At::new(setting.key, origin))),
            kind => self.give(setting, Given::new(kind, origin, text)),
        }
    }

    /// Notes what a YAML file says, where no stronger place has.
    ///
    /// # Errors
    /// Everything that is wrong with it as a file; what its values mean is not looked at yet.
    pub fn read(&mut self, file: &str, text: &str) -> Result<(), Vec<Problem>> {
        file::read(self, file, text)
    }

    /// Notes the targets of a file that has one a line; `#` begins a comment.
    pub fn read_targets(&mut self, file: &str, text: &str) {
        let file: Arc<str> = file.into();
        self.listed.extend(text.lines().zip(1..).filter_map(|(line, number)| {
            let text = line.split('#').next().unwrap_or_default().trim();
            let at = At::new("", Origin::File { file: Arc::clone(&file), line: number });
            (!text.is_empty()).then(|| WrittenTarget::new(text, at))
        }));
    }

    /// A setting's text and place if somebody wrote it or it has a default.
    pub fn get(&self, setting: &'static Setting) -> Option<(String, Origin)> {
        if let Some(given) = self.values.get(setting.key) {
            return Some((given.text(), given.origin.clone()));
        }
        match setting.fallback {
            Fallback::Value(text) => Some((text.into(), Origin::Default)),
            Fallback::Unset(_) => None,
        }
    }

    /// The settings alone: targets and names can be very many.
    #[must_use]
    pub fn without_targets(self) -> Self {
        Self { targets: Vec::new(), names: Vec::new(), listed: Vec::new(), ..self }
    }

    /// Makes a setting what it is in a running agent; returns whether it was written otherwise.
    pub fn keep(&mut self, setting: &'static Setting, running: &Self) -> bool {
        let texts = |written: &Self| written.get(setting).map(|(text, _)| text);
        let differs = texts(self) != texts(running);
        if differs {
            match running.get(setting) {
                Some((text, _)) => {
                    self.values.insert(setting.key, Given::new(setting.kind, Origin::Running, &text));
                }
                None => {
                    self.values.remove(setting.key);
                }
            }
        }
        differs
    }

    pub(super) fn give(&mut self, setting: &'static Setting, given: Given) {
        self.values.entry(setting.key).or_insert(given);
    }
}
