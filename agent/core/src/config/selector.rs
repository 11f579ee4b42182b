//! Which pods may be probed: a label selector as `kubectl get --selector` has it, namespaces, and what holds for pods
//! that say nothing themselves.

/// Which pods may be probed. Namespaces and selector bound it; within, a pod's own annotation decides, else the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodChoice {
    /// If there are any, only pods of these namespaces.
    pub include: Vec<String>,
    /// No pods of these.
    pub exclude: Vec<String>,
    /// Only pods whose labels match.
    pub selector: Selector,
    /// Whether pods are probed that say nothing themselves.
    pub default_in: bool,
}

impl Default for PodChoice {
    fn default() -> Self {
        let (include, exclude) = (Vec::new(), Vec::new());
        Self { include, exclude, selector: Selector::default(), default_in: true }
    }
}

impl PodChoice {
    /// Whether a pod may be probed: its namespace, what its own annotation says, and its labels by key.
    pub fn admits<'a>(
        &self,
        namespace: &str,
        own: Option<bool>,
        label: impl Fn(&str) -> Option<&'a str>,
    ) -> bool {
        let listed = |list: &[String]| list.iter().any(|each| each == namespace);
        (self.include.is_empty() || listed(&self.include))
            && !listed(&self.exclude)
            && self.selector.matches(label)
            && own.unwrap_or(self.default_in)
    }
}

/// Requirements that labels must all meet; without any, all labels do
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    values: Values,
}

/// What a label's value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Values {
    In(Vec<String>),
    /// Labels that are not there are not in, too.
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Reads one; `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = split_outside_parentheses(text)?;
        let requirements: Vec<_> = parts.iter().map(|part| requirement(part)).collect::<Option<_>>()?;
        Some(Self(requirements))
    }

    /// Whether labels match, given the value of each by its key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|Requirement { key, values }| {
            let label = label(key);
            let among =
                |values: &[String]| label.is_some_and(|label| values.iter().any(|value| value == label));
            match values {
                Values::In(values) => among(values),
                Values::NotIn(values) => !among(values),
                Values::Exists => label.is_some(),
                Values::Absent => label.is_none(),
            }
        })
    }
}

/// Parts between commas, of which those in parentheses do not count; `None` if these are not balanced.
fn split_outside_parentheses(text: &str) -> Option<Vec<&str>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut inside = false;
    for character in text.chars() {
        match character {
            '(' if inside => return None,
            '(' => inside = true,
            ')' if !inside => return None,
            ')' => inside = false,
            _ => {}
        }
    }
    let mut inside_now = false;
    let separates = |character: char| {
        match character {
            '(' => inside_now = true,
            ')' => inside_now = false,
            _ => {}
        }
        character == ',' && !inside_now
    };
    (!inside).then(|| text.split(separates).collect())
}

fn requirement(text: &str) -> Option<Requirement> {
    let text = text.trim();
    if let Some(key) = text.strip_prefix('!') {
        return with(key, Values::Absent);
    }
    if let Some((key, value)) = text.split_once("!=") {
        return with(key, Values::NotIn(vec![value_of(value)?]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return with(key, Values::In(vec![value_of(value)?]));
    }
    let Some((before, list)) = text.split_once('(') else { return with(text, Values::Exists) };
    let values: Vec<_> = list.strip_suffix(')')?.split(',').map(value_of).collect::<Option<_>>()?;
    let mut words = before.split_whitespace();
    let (key, operator) = (words.next()?, words.next()?);
    match (operator, words.next()) {
        ("in", None) => with(key, Values::In(values)),
        ("notin", None) => with(key, Values::NotIn(values)),
        _ => None,
    }
}

fn with(key: &str, values: Values) -> Option<Requirement> {
    let key = key.trim();
    let name = key.rsplit('/').next().unwrap_or(key);
    let valid = !name.is_empty() && name.len() <= 63 && key.len() <= 317 && key.bytes().all(is_part_of_key);
    valid.then(|| Requirement { key: key.to_owned(), values })
}

fn value_of(text: &str) -> Option<String> {
    let text = text.trim();
    let valid = text.len() <= 63 && text.bytes().all(|byte| is_part_of_key(byte) && byte != b'/');
    valid.then(|| text.to_owned())
}

fn is_part_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_means_what_kubectl_takes_it_for() {
        let labels = [("app", "web"), ("tier", "front"), ("example.com/x", "")];
        let label = |key: &str| labels.iter().find(|(each, _)| *each == key).map(|(_, value)| *value);
        for (text, matches) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("missing!=web", true),
            ("app in (db, web)", true),
            ("app in (db),tier", false),
            ("app notin (db,web)", false),
            ("missing notin (db)", true),
            ("example.com/x", true),
            ("example.com/x=", true),
            ("!app", false),
            ("!missing, app", true),
        ] {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.matches(label), matches, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "app in web",
            "app in (web",
            "app in web)",
            "app near (web)",
            "=web",
            "app=a b",
            ",",
            "app,",
            "!",
            "app in ((a))",
            "a b",
        ] {
            assert_eq!(Selector::parse(text), None, "{text}");
        }
    }

    #[test]
    fn namespaces_and_selector_bound_what_annotations_may_choose() {
        let choice = |include: &[&str], exclude: &[&str], default_in| {
            let owned = |list: &[&str]| list.iter().map(|&each| each.to_owned()).collect();
            let selector = Selector::parse("app=web").unwrap();
            PodChoice { include: owned(include), exclude: owned(exclude), selector, default_in }
        };
        let web = |key: &str| (key == "app").then_some("web");
        let none = |_: &str| None;
        let all = choice(&[], &[], true);
        assert!(all.admits("shop", None, web) && !all.admits("shop", Some(false), web));
        assert!(!all.admits("shop", Some(true), none), "the selector bounds");
        let some = choice(&["shop", "lab"], &["lab"], false);
        assert!(some.admits("shop", Some(true), web) && !some.admits("shop", None, web));
        assert!(!some.admits("lab", Some(true), web) && !some.admits("other", Some(true), web));
    }
}
