//! YAML as a tree in which everything knows its line. Text stays text: what it means is not YAML's to say.

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::Fault;

/// No setting lies deeper; what does is a mistake or an attack.
const MAX_DEPTH: usize = 16;

/// A value and its line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Empty,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// What has been complained about already.
    Broken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) line: u32,
    pub(super) text: String,
}

/// The tree of the only document, and what is wrong with it as YAML; no tree if nothing can be made of it.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<(u32, Fault)>) {
    let mut builder = Builder::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.faults.push((line(error.marker().line()), Fault::NotYaml(error.info())));
                return (None, builder.faults);
            }
        };
        if let Event::DocumentStart(..) = event {
            documents += 1;
            if documents > 1 {
                builder.faults.push((at(&span), Fault::SecondDocument));
                break;
            }
        }
        if !builder.take(event, at(&span)) {
            return (None, builder.faults);
        }
    }
    (builder.root, builder.faults)
}

fn at(span: &Span) -> u32 {
    line(span.start.line())
}

fn line(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[derive(Debug, Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    faults: Vec<(u32, Fault)>,
}

/// A list or map whose end has not come yet.
#[derive(Debug)]
enum Open {
    List(u32, Vec<Node>),
    Map(u32, Vec<(Key, Node)>, Option<Key>),
}

impl Builder {
    /// Takes one event; `false` if it is not worth going on.
    fn take(&mut self, event: Event<'_>, line: u32) -> bool {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain(line, anchor, tag.is_some());
                let empty = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                let value = if empty { Value::Empty } else { Value::Text(text.into_owned()) };
                self.add(Node { line, value });
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.plain(line, anchor, tag.is_some());
                self.open.push(Open::List(line, Vec::new()));
            }
            Event::MappingStart(_, anchor, tag) => {
                self.plain(line, anchor, tag.is_some());
                self.open.push(Open::Map(line, Vec::new(), None));
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(line, items)) => self.add(Node { line, value: Value::List(items) }),
                Some(Open::Map(line, entries, _)) => self.add(Node { line, value: Value::Map(entries) }),
                None => {}
            },
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.faults.push((line, Fault::Alias));
                self.add(Node { line, value: Value::Broken });
            }
            _ => {}
        }
        if self.open.len() > MAX_DEPTH {
            self.faults.push((line, Fault::TooDeep));
        }
        self.open.len() <= MAX_DEPTH
    }

    /// Notes what plain YAML has not.
    fn plain(&mut self, line: u32, anchor: usize, tag: bool) {
        if anchor != 0 {
            self.faults.push((line, Fault::Alias));
        }
        if tag {
            self.faults.push((line, Fault::Tag));
        }
    }

    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(Self::key(node, &mut self.faults)),
            },
        }
    }

    fn key(node: Node, faults: &mut Vec<(u32, Fault)>) -> Key {
        let text = match node.value {
            Value::Text(text) => text,
            Value::Empty | Value::List(_) | Value::Map(_) => {
                faults.push((node.line, Fault::NotKey));
                String::new()
            }
            Value::Broken => String::new(),
        };
        Key { line: node.line, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_knows_its_line() {
        let (root, faults) = parse("a: 1\n# comment\nb:\n  - '2'\n  - {c: null}\n");
        let node = |line, value| Node { line, value };
        let key = |line, text: &str| Key { line, text: text.into() };
        let inner = node(5, Value::Map(vec![(key(5, "c"), node(5, Value::Empty))]));
        let list = Value::List(vec![node(4, Value::Text("2".into())), inner]);
        let root_value =
            Value::Map(vec![(key(1, "a"), node(1, Value::Text("1".into()))), (key(3, "b"), node(4, list))]);
        assert_eq!((root, faults), (Some(node(1, root_value)), vec![]));
    }

    #[test]
    fn aliases_are_not_expanded() {
        let (root, faults) = parse("a: &x [1]\nb: [*x, *x]\n");
        assert_eq!(faults.len(), 3);
        let Some(Value::Map(entries)) = root.map(|root| root.value) else { panic!("a map") };
        assert!(matches!(&entries[1].1.value, Value::List(items) if items[0].value == Value::Broken));
    }

    #[test]
    fn depth_is_bounded() {
        let (root, faults) = parse(&("[".repeat(17) + &"]".repeat(17)));
        assert_eq!((root, faults), (None, vec![(1, Fault::TooDeep)]));
    }
}
