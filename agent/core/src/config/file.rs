//! The configuration file: settings by name, in sections. Whatever is wrong with it is noted, and reading goes on.

use std::collections::HashMap;
use std::sync::Arc;

use super::origin::{At, Origin};
use super::problem::{Fault, Problem};
use super::setting::{self, Fallback, Kind, Setting};
use super::written::{Given, Item, Written, WrittenTarget};
use super::yaml::{self, Node, Value};

/// What may stand beside a target, after whom it names.
const BESIDE: [&str; 4] = ["interval", "timeout", "protocols", "expect"];

/// Reads a file's text into what was written.
pub(super) fn read(written: &mut Written, file: &str, text: &str) -> Result<(), Vec<Problem>> {
    let (root, faults) = yaml::parse(text);
    let mut reader = Reader { file: file.into(), written, problems: Vec::new(), seen: HashMap::new() };
    for (line, fault) in faults {
        reader.note(String::new(), line, None, fault);
    }
    match root {
        Some(Node { value: Value::Empty, .. }) => reader.note(String::new(), 0, None, Fault::EmptyFile),
        Some(node) => reader.section("", node),
        None if reader.problems.is_empty() => reader.note(String::new(), 0, None, Fault::EmptyFile),
        None => {}
    }
    if reader.problems.is_empty() { Ok(()) } else { Err(reader.problems) }
}

struct Reader<'a> {
    file: Arc<str>,
    written: &'a mut Written,
    problems: Vec<Problem>,
    /// The line of each setting and section so far.
    seen: HashMap<String, u32>,
}

impl Reader<'_> {
    fn section(&mut self, prefix: &str, node: Node) {
        let entries = match node.value {
            Value::Map(entries) => entries,
            Value::Empty | Value::Broken => return,
            Value::Text(_) | Value::List(_) => {
                let example = setting::ALL.iter().find(|each| each.key.starts_with(prefix));
                let example = example.map_or_else(String::new, |each| {
                    let rest = each.key.strip_prefix(prefix).unwrap_or(each.key).trim_start_matches('.');
                    format!("{rest}: {}", example_of(each))
                });
                return self.note(prefix.into(), node.line, None, Fault::NotSection(example));
            }
        };
        for (key, node) in entries {
            if key.text.is_empty() {
                continue;
            }
            let full = if prefix.is_empty() { key.text } else { format!("{prefix}.{}", key.text) };
            if let Some(first) = self.seen.get(&full) {
                let fault = Fault::Twice(*first);
                self.note(full, key.line, None, fault);
                continue;
            }
            self.seen.insert(full.clone(), key.line);
            match setting::find(&full) {
                Some(setting) => self.setting(setting, node),
                None if setting::is_section(&full) => self.section(&full, node),
                None => {
                    let near = nearest(&full);
                    self.note(full, key.line, None, Fault::Unknown(near));
                }
            }
        }
    }

    fn setting(&mut self, setting: &'static Setting, node: Node) {
        match setting.kind {
            Kind::Targets => {
                let targets = self.targets(setting, "target", "192.0.2.1:443", node);
                self.written.targets.extend(targets);
            }
            Kind::Names => {
                let names = self.targets(setting, "name", "db.example:5432", node);
                self.written.names.extend(names);
            }
            kind if kind.is_list() => {
                let origin = self.origin(node.line);
                if let Some(items) = self.list(setting.key, example_of(setting), node) {
                    self.written.give(setting, Given { origin, items });
                }
            }
            _ => {
                let origin = self.origin(node.line);
                if let Some(item) = self.value(setting.key, node) {
                    self.written.give(setting, Given { origin, items: vec![item] });
                }
            }
        }
    }

    fn value(&mut self, key: &'static str, node: Node) -> Option<Item> {
        let fault = match node.value {
            Value::Text(text) => return Some(Item { text, origin: self.origin(node.line) }),
            Value::Empty => Fault::NoValue,
            Value::List(_) => Fault::NotValue("a list"),
            Value::Map(_) => Fault::NotValue("settings by name"),
            Value::Broken => return None,
        };
        self.note(key.into(), node.line, None, fault);
        None
    }

    /// A list of texts, or one text with commas.
    fn list(&mut self, key: &'static str, example: &'static str, node: Node) -> Option<Vec<Item>> {
        match node.value {
            Value::List(nodes) => {
                let count = nodes.len();
                let items: Vec<_> = nodes.into_iter().filter_map(|node| self.value(key, node)).collect();
                (items.len() == count).then_some(items)
            }
            Value::Text(text) => {
                let origin = self.origin(node.line);
                let item = |text: &str| Item { text: text.trim().to_owned(), origin: origin.clone() };
                Some(text.split(',').map(item).collect())
            }
            Value::Empty => Some(Vec::new()),
            Value::Map(_) => {
                self.note(key.into(), node.line, None, Fault::NotList(example));
                None
            }
            Value::Broken => None,
        }
    }

    fn targets(
        &mut self,
        setting: &'static Setting,
        whom: &'static str,
        example: &'static str,
        node: Node,
    ) -> Vec<WrittenTarget> {
        let nodes = match node.value {
            Value::List(nodes) => nodes,
            Value::Empty | Value::Broken => return Vec::new(),
            Value::Text(_) | Value::Map(_) => {
                self.note(setting.key.into(), node.line, None, Fault::NotList(example_of(setting)));
                return Vec::new();
            }
        };
        let mut targets = Vec::with_capacity(nodes.len());
        for node in nodes {
            let at = At::new(setting.key, self.origin(node.line));
            match node.value {
                Value::Text(text) => targets.push(WrittenTarget::new(&text, at)),
                Value::Map(entries) => targets.extend(self.target(setting, whom, at, entries)),
                Value::Empty | Value::List(_) => {
                    self.problems.push(Problem::new(at, None, Fault::NotTarget(example, whom)));
                }
                Value::Broken => {}
            }
        }
        targets
    }

    /// A target with settings beside it.
    fn target(
        &mut self,
        setting: &'static Setting,
        whom: &'static str,
        at: At,
        entries: Vec<(yaml::Key, Node)>,
    ) -> Option<WrittenTarget> {
        let mut target = WrittenTarget::new("", at);
        let mut seen: HashMap<String, u32> = HashMap::new();
        for (key, node) in entries.into_iter().filter(|(key, _)| !key.text.is_empty()) {
            let named = |key: &str| format!("{}.{key}", setting.key);
            if let Some(first) = seen.insert(key.text.clone(), key.line) {
                self.note(named(&key.text), key.line, None, Fault::Twice(first));
                continue;
            }
            match key.text.as_str() {
                word if word == whom => {
                    self.value(setting.key, node)?.text.trim().clone_into(&mut target.text);
                }
                "interval" => target.interval = self.value(beside(setting, 0), node),
                "timeout" => target.timeout = self.value(beside(setting, 1), node),
                "protocols" => {
                    let origin = self.origin(node.line);
                    let items = self.list(beside(setting, 2), "[icmp, tcp]", node);
                    target.protocols = items.map(|items| Given { origin, items });
                }
                "expect" => {
                    target.expect = self.list(beside(setting, 3), "[10.96.0.1]", node).unwrap_or_default();
                }
                other => {
                    let near = closest(other, BESIDE.into_iter().chain([whom])).map(Into::into);
                    self.note(named(other), key.line, None, Fault::Unknown(near));
                }
            }
        }
        if !seen.contains_key(whom) {
            self.problems.push(Problem::new(target.at, None, Fault::NoWhom(whom)));
            return None;
        }
        Some(target)
    }

    fn origin(&self, line: u32) -> Origin {
        Origin::File { file: Arc::clone(&self.file), line }
    }

    fn note(&mut self, key: String, line: u32, text: Option<&str>, fault: Fault) {
        let at = At::new(key, self.origin(line));
        self.problems.push(Problem::new(at, text, fault));
    }
}

/// What stands beside a target, with its section.
fn beside(setting: &'static Setting, which: usize) -> &'static str {
    const TARGETS: [&str; 4] = ["targets.interval", "targets.timeout", "targets.protocols", "targets.expect"];
    const NAMES: [&str; 4] =
        ["dns.names.interval", "dns.names.timeout", "dns.names.protocols", "dns.names.expect"];
    let keys = if setting.kind == Kind::Targets { TARGETS } else { NAMES };
    keys.get(which).copied().unwrap_or(setting.key)
}

fn example_of(setting: &'static Setting) -> &'static str {
    match (setting.kind, setting.fallback) {
        (Kind::Targets, _) => "[192.0.2.1, \"192.0.2.1:443\"]",
        (Kind::Names, _) => "[db.example, \"db.example:5432\"]",
        (Kind::Servers, _) => "[10.96.0.10]",
        (Kind::Networks, _) => "[10.244.0.0/16]",
        (Kind::Peers, _) => "[node-2=10.0.0.2]",
        (Kind::Domains, _) => "[svc.cluster.local]",
        (Kind::Namespaces, _) => "[kube-system]",
        (Kind::Protocols, _) => "[icmp, tcp]",
        (Kind::Bounds(_), _) => "[0.001, 0.01, 0.1]",
        (Kind::Text, _) => "node-1",
        (_, Fallback::Value(text)) => text,
        (_, Fallback::Unset(_)) => "…",
    }
}

/// The known setting or section that an unknown one is most like: by its last word, first in the same section.
fn nearest(unknown: &str) -> Option<String> {
    let (section, word) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let keys = setting::ALL.iter().map(|setting| setting.key);
    let sections = keys.clone().filter_map(|key| key.rsplit_once('.').map(|(section, _)| section));
    let known: Vec<&'static str> = keys.chain(sections).collect();
    let mut here: Vec<&str> = known
        .iter()
        .filter_map(|key| {
            if section.is_empty() { Some(*key) } else { key.strip_prefix(section)?.strip_prefix('.') }
        })
        .filter_map(|rest| rest.split('.').next())
        .collect();
    here.dedup();
    if let Some(near) = closest(word, here.into_iter()) {
        return Some(if section.is_empty() { near.into() } else { format!("{section}.{near}") });
    }
    let last = |key: &&'static str| key.rsplit('.').next().unwrap_or(key);
    let near = closest(word, known.iter().map(last))?;
    known.into_iter().find(|key| last(key) == near).map(Into::into)
}

/// The word that differs in few letters, where `-` and `_` are alike, or of which this is the beginning.
fn closest<'a>(word: &str, mut known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let word = word.replace('-', "_").to_ascii_lowercase();
    if word.len() > 2
        && let Some(longer) = known.clone().find(|known| known.starts_with(&word))
    {
        return Some(longer);
    }
    let distance = |known: &&str| strsim::damerau_levenshtein(&word, known);
    let near = known.by_ref().min_by_key(distance)?;
    (distance(&near) <= word.len().min(near.len()) / 3).then_some(near)
}
