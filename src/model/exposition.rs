//! Numbers as the text that Prometheus reads.

use std::fmt::{Display, Write as _};

/// The text so far. Writing to a string does not fail, and so nothing here can.
pub(crate) struct Exposition {
    prefix: &'static str,
    /// A family a line: its name, its type and what it is.
    families: &'static str,
    /// What the name of a counter has behind it in a sample, and not in its family: `_total` in
    /// OpenMetrics, nothing in the older format.
    total: &'static str,
    text: String,
}

impl Exposition {
    pub(crate) fn new(prefix: &'static str, families: &'static str, total: &'static str) -> Self {
        Self {
            prefix,
            families,
            total,
            text: String::with_capacity(8 * 1024),
        }
    }

    /// Begins a family: what follows are its samples. True where it is a counter.
    pub(crate) fn family(&mut self, name: &str) -> bool {
        let line = self.families.lines().find_map(|line| {
            let (kind, help) = line
                .strip_prefix(name)?
                .strip_prefix(' ')?
                .split_once(' ')?;
            Some((kind, help))
        });
        let Some((kind, help)) = line else {
            debug_assert!(false, "{name} is no family");
            return false;
        };
        let prefix = self.prefix;
        let _ = writeln!(
            self.text,
            "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}"
        );
        kind == "counter"
    }

    /// A family of one number.
    pub(crate) fn value(&mut self, name: &str, value: impl Display) {
        self.labelled(name, [([], value)]);
    }

    /// Nothing is written of what is not known.
    pub(crate) fn known(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.value(name, value);
        }
    }

    /// A family of numbers told apart by labels.
    pub(crate) fn labelled<const N: usize>(
        &mut self,
        name: &str,
        samples: impl IntoIterator<Item = ([(&'static str, String); N], impl Display)>,
    ) {
        let end = if self.family(name) { self.total } else { "" };
        for (labels, value) in samples {
            self.sample(&format!("{name}{end}"), &labels, value);
        }
    }

    /// From each limit up to which it counts, the observations; then the sum and the count.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        label: Option<(&'static str, String)>,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        (sum, count): (f64, u64),
    ) {
        let limits = buckets
            .into_iter()
            .map(|(le, count)| (le.to_string(), count));
        for (le, count) in limits.chain([("+Inf".to_owned(), count)]) {
            let labels: Vec<_> = label.clone().into_iter().chain([("le", le)]).collect();
            self.sample(&format!("{name}_bucket"), &labels, count);
        }
        self.sample(&format!("{name}_sum"), label.as_slice(), sum);
        self.sample(&format!("{name}_count"), label.as_slice(), count);
    }

    fn sample(&mut self, name: &str, labels: &[(&'static str, String)], value: impl Display) {
        let _ = write!(self.text, "{}_{name}", self.prefix);
        let mut before = '{';
        for (label, text) in labels {
            let text = text.replace('\\', r"\\").replace('"', r#"\""#);
            let text = text.replace('\n', r"\n");
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
            before = ',';
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line() {
        let mut text = Exposition::new("p", "a gauge It.", "");
        text.labelled("a", [([("b", "c\"d\\e\nf".to_owned())], 1)]);
        let lines = "# HELP p_a It.\n# TYPE p_a gauge\np_a{b=\"c\\\"d\\\\e\\nf\"} 1\n";
        assert_eq!(text.into_text(), lines);
    }

    #[test]
    fn a_counter_is_named_as_the_format_names_it() {
        for (total, sample) in [("", "p_a 2"), ("_total", "p_a_total 2")] {
            let mut text = Exposition::new("p", "ab gauge No.\na counter It.", total);
            text.value("a", 2);
            let text = text.into_text();
            assert!(text.contains("# TYPE p_a counter"), "{text}");
            assert_eq!(text.lines().last(), Some(sample));
        }
    }
}
