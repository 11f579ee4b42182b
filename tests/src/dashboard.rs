//! [`Dashboard`]: one of Grafana's as Prometheus sees it, the queries of its panels with its variables in them.

use crate::error::LabError;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A dashboard.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// Its title.
    pub title: String,
    /// What can be chosen in it, in the order in which it is shown.
    pub variables: Vec<Variable>,
    /// Its panels, in reading order.
    pub panels: Vec<Panel>,
}

/// Something that can be chosen. Queries name it `$name`.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What stands in queries for all of its values, if all can be chosen.
    pub all: Option<String>,
    /// Which values there are, if Prometheus is asked for them.
    pub values: Option<LabelValues>,
}

/// The values of a label, `label_values(SERIES, LABEL)` in Grafana's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelValues {
    /// Which series.
    pub series: String,
    /// Which of their labels.
    pub label: String,
}

/// A panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Its title.
    pub title: String,
    /// The unit of its numbers, as Grafana names it.
    pub unit: String,
    /// Its queries.
    pub queries: Vec<Query>,
}

/// A query of a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The expression, with variables in it.
    pub text: String,
    /// How its series are called: text with `{{label}}` in it.
    pub legend: String,
    /// Whether it is asked for all the time that is shown, and not for its end alone.
    pub over_time: bool,
}

impl Dashboard {
    /// Reads a dashboard's JSON.
    ///
    /// # Errors
    /// [`LabError::Missing`] if there is no such file, [`LabError::Malformed`] if it is none of a dashboard.
    pub fn read(file: &Path) -> Result<Self, LabError> {
        let text = fs::read_to_string(file).map_err(|error| LabError::Missing {
            what: "a dashboard",
            hint: format!("{}: {error}", file.display()),
        })?;
        let parsed = serde_json::from_str(&text).ok().and_then(|json| Self::of(&json));
        parsed.ok_or(LabError::Malformed { what: "a dashboard", text })
    }

    /// The panel with this title.
    ///
    /// # Errors
    /// [`LabError::Missing`] if there is none.
    pub fn panel(&self, title: &str) -> Result<&Panel, LabError> {
        let panel = self.panels.iter().find(|panel| panel.title == title);
        panel.ok_or_else(|| LabError::Missing { what: "a panel", hint: format!("{title} in {}", self.title) })
    }

    /// Values for its variables, as [`filled`] wants them: all there is, where that can be chosen; else agents, and this
    /// node. Rates are over this time.
    pub fn chosen<'a>(&'a self, node: &'a str, rate_interval: &'a str) -> Vec<(&'a str, &'a str)> {
        let value = |variable: &'a Variable| match (&variable.all, &*variable.name) {
            (Some(all), _) => all,
            (None, "kind") => "agent",
            (None, "node") => node,
            (None, _) => "",
        };
        let chosen = self.variables.iter().map(|variable| (&*variable.name, value(variable)));
        chosen.chain([("__rate_interval", rate_interval)]).collect()
    }

    fn of(json: &Value) -> Option<Self> {
        let variables = json.pointer("/templating/list")?.as_array()?;
        let panels = json.get("panels")?.as_array()?.iter().filter(|panel| panel["type"] != "row");
        Some(Self {
            title: json.get("title")?.as_str()?.to_owned(),
            variables: variables.iter().map(Variable::of).collect::<Option<_>>()?,
            panels: panels.map(Panel::of).collect::<Option<_>>()?,
        })
    }
}

impl Variable {
    fn of(json: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let values = json.pointer("/query/query").and_then(Value::as_str);
        Some(Self {
            name: text(json.get("name")?)?,
            all: json
                .get("allValue")
                .and_then(text)
                .filter(|_| json.get("includeAll") == Some(&Value::Bool(true))),
            values: values.map_or(Some(None), |query| LabelValues::parse(query).map(Some))?,
        })
    }
}

impl LabelValues {
    fn parse(query: &str) -> Option<Self> {
        let (series, label) = query.strip_prefix("label_values(")?.strip_suffix(')')?.rsplit_once(", ")?;
        Some(Self { series: series.to_owned(), label: label.to_owned() })
    }
}

impl Panel {
    fn of(json: &Value) -> Option<Self> {
        let targets = json.get("targets")?.as_array()?;
        Some(Self {
            title: json.get("title")?.as_str()?.to_owned(),
            unit: json.pointer("/fieldConfig/defaults/unit")?.as_str()?.to_owned(),
            queries: targets.iter().map(Query::of).collect::<Option<_>>()?,
        })
    }
}

impl Query {
    fn of(json: &Value) -> Option<Self> {
        let text = |part: &str| json.get(part)?.as_str().map(str::to_owned);
        let (text, legend) = (text("expr")?, text("legendFormat")?);
        Some(Self { text, legend, over_time: json.get("range")?.as_bool()? })
    }
}

/// A query with values for its variables.
///
/// # Errors
/// [`LabError::Malformed`] with the query if it names a variable that has no value.
pub fn filled(query: &str, values: &[(&str, &str)]) -> Result<String, LabError> {
    let mut parts = query.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (name, rest) = part.split_at(end.unwrap_or(part.len()));
        // A group of label_replace, which Grafana leaves alone too.
        if name.starts_with(|letter: char| letter.is_ascii_digit()) {
            text.push('$');
            text.push_str(part);
            continue;
        }
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            return Err(LabError::Malformed { what: "a query's variable", text: query.to_owned() });
        };
        text.push_str(value);
        text.push_str(rest);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_by_whole_names() {
        let values = [("node", "a"), ("node_name", "b"), ("__rate_interval", "1m")];
        let text = filled("x{n=\"$node\",m=\"$node_name\"}[$__rate_interval]", &values).unwrap();
        assert_eq!(text, "x{n=\"a\",m=\"b\"}[1m]");
        assert_eq!(filled("\"$1\"", &values).unwrap(), "\"$1\"");
        assert!(filled("$other", &values).is_err());
    }
}
