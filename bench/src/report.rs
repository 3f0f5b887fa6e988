//! What was measured, put together and printed.

use serde::Serialize;

use crate::measure::Metric;

/// The peer that the others are compared with.
const BASE: &str = "wirecall";

/// All figures of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// The figures of one metric of one peer in one scenario, one for each round.
#[derive(Debug)]
struct Row {
    scenario: String,
    peer: &'static str,
    metric: String,
    values: Vec<f64>,
}

/// What is printed of a row.
#[derive(Serialize)]
struct Summary<'a> {
    scenario: &'a str,
    peer: &'a str,
    metric: &'a str,
    median: f64,
    min: f64,
    max: f64,
}

impl Report {
    pub(crate) fn add(&mut self, scenario: &str, peer: &'static str, metric: Metric) {
        let known = self
            .rows
            .iter_mut()
            .find(|row| row.scenario == scenario && row.peer == peer && row.metric == metric.name);
        match known {
            Some(row) => row.values.push(metric.value),
            None => self.rows.push(Row {
                scenario: scenario.to_owned(),
                peer,
                metric: metric.name,
                values: vec![metric.value],
            }),
        }
    }

    pub(crate) fn print(&self, as_json: bool) -> serde_json::Result<()> {
        let text = if as_json {
            self.json_lines()?
        } else {
            self.tables()
        };
        print!("{text}");
        Ok(())
    }

    /// One object a line.
    fn json_lines(&self) -> serde_json::Result<String> {
        let mut text = String::new();
        for row in &self.rows {
            text += &serde_json::to_string(&row.summary())?;
            text.push('\n');
        }
        Ok(text)
    }

    /// A table for each scenario.
    fn tables(&self) -> String {
        let mut text = String::new();
        for rows in groups(self.rows.iter().collect(), |row| &row.scenario) {
            text += &format!("\n{}\n", rows[0].scenario);
            text += &format!(
                "  {:<20}{:<18}{:>13}{:>13}{:>13}{:>12}\n",
                "metric", "peer", "median", "min", "max", "to wirecall"
            );
            for rows in groups(rows, |row| &row.metric) {
                let base = rows.iter().find(|row| row.peer == BASE);
                let base = base.map(|row| row.summary().median);
                for row in rows {
                    text += &row.summary().line(base);
                }
            }
        }
        text
    }
}

impl Row {
    fn summary(&self) -> Summary<'_> {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            (values[middle - 1] + values[middle]) / 2.0
        } else {
            values[middle]
        };
        Summary {
            scenario: &self.scenario,
            peer: self.peer,
            metric: &self.metric,
            median,
            min: values[0],
            max: values[values.len() - 1],
        }
    }
}

impl Summary<'_> {
    fn line(&self, base: Option<f64>) -> String {
        let ratio = match base {
            Some(base) if base > 0.0 => format!("{:.2}", self.median / base),
            _ => "-".to_owned(),
        };
        let [median, min, max] = [self.median, self.min, self.max].map(digits);
        let (metric, peer) = (self.metric, self.peer);
        format!("  {metric:<20}{peer:<18}{median:>13}{min:>13}{max:>13}{ratio:>12}\n")
    }
}

/// As many digits as say something.
fn digits(value: f64) -> String {
    let decimals = match value {
        value if value >= 1000.0 => 0,
        value if value >= 10.0 => 1,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Those with the same key together, in the order in which the keys come up first.
fn groups(rows: Vec<&Row>, key: impl Fn(&Row) -> &String) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| key(group[0]) == key(row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(values: &[f64]) -> Report {
        let mut report = Report::default();
        for value in values {
            report.add("echo", BASE, Metric::new("calls_per_s", *value));
        }
        report
    }

    #[test]
    fn a_row_has_the_median_of_its_rounds() {
        let lines = report(&[3.0, 1.0, 2.0]).json_lines().unwrap();
        assert_eq!(
            lines,
            r#"{"scenario":"echo","peer":"wirecall","metric":"calls_per_s","median":2.0,"min":1.0,"max":3.0}"#.to_owned() + "\n"
        );
        assert_eq!(report(&[1.0, 4.0]).rows[0].summary().median, 2.5);
    }

    #[test]
    fn a_table_shows_ratios_to_wirecall() {
        let mut report = report(&[2.0]);
        report.add("echo", "mux", Metric::new("calls_per_s", 1.0));
        let tables = report.tables();
        let line = tables.lines().find(|line| line.contains("mux"));
        assert!(line.unwrap().ends_with("0.50"));
    }
}
