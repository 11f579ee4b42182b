//! What a benchmark found: tables of figures, and bounds that are met or missed. The same text goes to the terminal
//! and into BENCHMARKS.md.

use anyhow::{Context, Result};
use std::fmt::{Display, Write};
use std::path::Path;
use std::process::Command;
use std::{fs, thread};

/// The result of one subcommand.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    short: bool,
    commit: String,
    load_before: String,
    tables: Vec<Table>,
    bounds: Vec<Bound>,
}

/// Figures under a title.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Bound {
    what: String,
    measured: String,
    limit: String,
    met: bool,
}

impl Table {
    /// An empty table.
    pub(crate) fn new<C: Display>(title: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        let header = columns.into_iter().map(|cell| cell.to_string()).collect();
        Self { title: title.into(), rows: vec![header] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// A Markdown table whose columns are aligned, so that it reads in a terminal too.
    fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = format!("\n**{}**\n\n", self.title);
        for (number, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let _ = write!(text, "| {:<width$} ", cell(row, column));
            }
            text.push_str("|\n");
            if number == 0 {
                text.extend(widths.iter().map(|width| format!("|{}", "-".repeat(width + 2))));
                text.push_str("|\n");
            }
        }
        text
    }
}

impl Report {
    /// An empty report of the subcommand `name`.
    pub(crate) fn new(name: &'static str, short: bool) -> Self {
        let commit = output("git", &["describe", "--always", "--abbrev=10"]);
        // Other benchmarks may have written their results just before.
        let changed =
            ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)BENCHMARKS.md"];
        let dirty = if output("git", &changed).is_empty() { "" } else { "-dirty" };
        let commit = commit + dirty;
        Self { name, short, commit, load_before: load(), tables: Vec::new(), bounds: Vec::new() }
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds a bound: what was measured must not exceed the limit. What could not be measured does not meet it.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, measured: f64, limit: f64, unit: &str) {
        let shown = crate::stats::Figure(measured);
        self.bounds.push(Bound {
            what: what.into(),
            measured: format!("{shown}{unit}"),
            limit: format!("≤ {limit}{unit}"),
            met: measured <= limit,
        });
    }

    /// Whether all bounds are met, and there are some.
    pub(crate) fn passed(&self) -> bool {
        !self.bounds.is_empty() && self.bounds.iter().all(|bound| bound.met)
    }

    /// The whole report.
    pub(crate) fn text(&self) -> String {
        let mut bounds = Table::new("Bounds", ["", "measured", "bound", ""]);
        for Bound { what, measured, limit, met } in &self.bounds {
            let verdict = if *met { "PASS" } else { "MISS" };
            bounds.row([what.clone(), measured.clone(), limit.clone(), verdict.to_owned()]);
        }
        let tables: String = self.tables.iter().map(Table::text).collect();
        format!("{}\n{tables}{}", self.origin(), bounds.text())
    }

    /// Replaces this benchmark's section of a file.
    pub(crate) fn write_to(&self, path: &Path) -> Result<()> {
        let whole = fs::read_to_string(path).context("run it in the project's root")?;
        fs::write(path, replace_section(&whole, self.name, &self.text())?)?;
        Ok(())
    }

    /// When, of what and where the figures are.
    fn origin(&self) -> String {
        let date = output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
        let commit = &self.commit;
        let kernel = output("uname", &["-r"]);
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let (before, after) = (&self.load_before, load());
        let (name, mode) = (self.name, if self.short { " --short" } else { "" });
        format!(
            "`podsonar-bench {name}{mode}`, {date}, commit {commit}, Linux {kernel}, {cores} cores, load {before} at the start and {after} at the end"
        )
    }
}

/// Puts `text` between the marks of a section.
fn replace_section(whole: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let lacks = || format!("the file lacks `{begin}` or `{end}`");
    let (before, rest) = whole.split_once(&begin).with_context(lacks)?;
    let (_, after) = rest.split_once(&end).with_context(lacks)?;
    Ok(format!("{before}{begin}\n{text}{end}{after}"))
}

/// How many threads ran or wanted to, over the last minute: others disturb a measurement.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
}

/// What a program prints, or a question mark.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| "?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_figure_misses_its_bound() {
        let mut report = Report::new("cost", true);
        report.at_most("of nothing", f64::NAN, 1.0, " µs");
        assert!(!report.passed());
        assert!(report.text().contains("MISS"));
    }

    #[test]
    fn a_report_without_bounds_has_not_passed() {
        assert!(!Report::new("cost", true).passed());
    }

    #[test]
    fn only_the_own_section_is_replaced() {
        let whole = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb <!-- begin y --> kept <!-- end y -->";
        let replaced = replace_section(whole, "x", "new\n").unwrap();
        assert_eq!(
            replaced,
            "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb <!-- begin y --> kept <!-- end y -->"
        );
        assert!(replace_section(whole, "z", "new").is_err());
    }
}
