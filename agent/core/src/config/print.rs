//! What is in force, as a file that can be fed back, each value with its origin.

use std::fmt::Write;

use super::origin::Origin;
use super::setting::{self, Fallback, Kind, Setting};
use super::written::{Given, Written, WrittenTarget};
use super::{Host, duration};

impl Written {
    /// Every setting as YAML with a comment that says where its value comes from. Of what is not set there is only a
    /// comment.
    pub fn print(&self, host: &Host) -> String {
        let mut printer = Printer { text: String::new(), sections: Vec::new() };
        for setting in setting::ALL {
            printer.enter(setting.key);
            match setting.kind {
                Kind::Targets => printer.targets(setting, "target", &self.targets),
                Kind::Names => printer.targets(setting, "name", &self.names),
                kind => match (self.get(setting), setting.fallback) {
                    (Some((text, origin)), _) => {
                        let value = value(kind, &text);
                        printer.line("", setting, &value, &origin.to_string());
                    }
                    (None, Fallback::Unset(meaning)) => printer.unset(setting, meaning, host),
                    (None, Fallback::Value(_)) => {}
                },
            }
        }
        printer.text
    }
}

struct Printer {
    text: String,
    sections: Vec<&'static str>,
}

impl Printer {
    /// Opens the sections of a setting, as far as they are not open.
    fn enter(&mut self, key: &'static str) {
        let mut wanted: Vec<&'static str> = key.split('.').collect();
        wanted.pop();
        let common = self.sections.iter().zip(&wanted).take_while(|(open, wanted)| open == wanted).count();
        self.sections.truncate(common);
        for section in wanted.into_iter().skip(common) {
            let indent = self.indent();
            self.put(&format!("{indent}{section}:"));
            self.sections.push(section);
        }
    }

    fn indent(&self) -> String {
        "  ".repeat(self.sections.len())
    }

    fn put(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn line(&mut self, before: &str, setting: &Setting, value: &str, comment: &str) {
        let word = setting.key.rsplit('.').next().unwrap_or(setting.key);
        let indent = self.indent();
        let value = if value.is_empty() { String::new() } else { format!(" {value}") };
        self.put(&format!("{indent}{before}{word}:{value}  # {comment}"));
    }

    fn unset(&mut self, setting: &'static Setting, meaning: &str, host: &Host) {
        let resolver = &host.resolver;
        let quoted = |texts: Vec<String>| list(&texts.join(","));
        let (value, comment) = match setting.key {
            key if key == setting::SOURCE.key => match &host.name {
                Some(name) => return self.line("", setting, &quote(name), "default: the host name"),
                None => ("''".into(), meaning),
            },
            key if key == setting::SERVERS.key => {
                (quoted(resolver.servers.iter().map(ToString::to_string).collect()), meaning)
            }
            key if key == setting::SEARCH.key => (quoted(resolver.search.clone()), meaning),
            key if key == setting::DNS_TIMEOUT.key => (duration::text(resolver.timeout), meaning),
            key if key == setting::NDOTS.key => (resolver.ndots.to_string(), meaning),
            _ => (String::new(), meaning),
        };
        self.line("# ", setting, &value, &format!("default: {comment}"));
    }

    fn targets(&mut self, setting: &'static Setting, whom: &str, targets: &[WrittenTarget]) {
        if targets.is_empty() {
            return self.line("", setting, "[]", &Origin::Default.to_string());
        }
        let indent = self.indent();
        let word = setting.key.rsplit('.').next().unwrap_or(setting.key);
        self.put(&format!("{indent}{word}:"));
        for target in targets {
            let mut parts = vec![format!("{whom}: {}", quote(&target.text))];
            let items = [("interval", &target.interval), ("timeout", &target.timeout)];
            for (word, item) in items {
                parts.extend(item.as_ref().map(|item| format!("{word}: {}", quote(&item.text))));
            }
            let protocols = target.protocols.as_ref().map(Given::text);
            parts.extend(protocols.map(|text| format!("protocols: {}", list(&text))));
            if !target.expect.is_empty() {
                let texts: Vec<_> = target.expect.iter().map(|item| item.text.as_str()).collect();
                parts.push(format!("expect: {}", list(&texts.join(","))));
            }
            let value = match parts.as_slice() {
                [_] => quote(&target.text),
                parts => format!("{{{}}}", parts.join(", ")),
            };
            self.put(&format!("{indent}  - {value}  # {}", target.at.origin));
        }
    }
}

/// Numbers and switches as they are, all else in quotes.
fn value(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Switch | Kind::Whole { .. } | Kind::Decimal { .. } => text.into(),
        Kind::Bounds(_) => format!("[{}]", text.replace(',', ", ")),
        kind if kind.is_list() => list(text),
        _ => quote(text),
    }
}

fn list(text: &str) -> String {
    let items: Vec<_> = text.split(',').filter(|item| !item.is_empty()).map(quote).collect();
    format!("[{}]", items.join(", "))
}

/// In single quotes only the quote itself has a meaning.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
