//! Numbers as the text that Prometheus reads.

use std::fmt::{Display, Write as _};

use http::{HeaderMap, header};

/// The text so far. Writing to a string does not fail, and so nothing here can.
pub(crate) struct Exposition {
    prefix: &'static str,
    /// A family a line: its name, its type and what it is.
    families: &'static str,
    format: ExpositionFormat,
    text: String,
}

/// In which of its two formats Prometheus is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpositionFormat {
    /// The text format 0.0.4, which everything reads.
    Text,
    /// OpenMetrics 1.0: `_total` is not in the name of a counter's family, and the end is marked.
    OpenMetrics,
}

impl ExpositionFormat {
    /// The one that a scraper would rather have, by its `Accept` (RFC 9110, section 12.5.1). Text
    /// for what names neither (`*/*`), and OpenMetrics, as ever, for what has no `Accept`.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let (mut text, mut open_metrics) = (0.0, 0.0);
        for range in lines.flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let weighs = match parts
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
                .as_str()
            {
                "application/openmetrics-text" => &mut open_metrics,
                "text/plain" | "text/*" => &mut text,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality = quality.map_or(1.0, |said| said.parse().unwrap_or(0.0));
            *weighs = f64::max(*weighs, quality);
        }
        if open_metrics > text || !headers.contains_key(header::ACCEPT) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Exposition {
    pub(crate) fn new(
        prefix: &'static str,
        families: &'static str,
        format: ExpositionFormat,
    ) -> Self {
        Self {
            prefix,
            families,
            format,
            text: String::with_capacity(8 * 1024),
        }
    }

    /// Begins a family: what follows are its samples.
    pub(crate) fn family(&mut self, name: &str) {
        let line = self.families.lines().find_map(|line| {
            let (kind, help) = line
                .strip_prefix(name)?
                .strip_prefix(' ')?
                .split_once(' ')?;
            Some((kind, help))
        });
        let Some((kind, help)) = line else {
            debug_assert!(false, "{name} is no family");
            return;
        };
        let name = match self.format {
            ExpositionFormat::Text => name,
            ExpositionFormat::OpenMetrics => name.trim_end_matches("_total"),
        };
        let prefix = self.prefix;
        let _ = writeln!(
            self.text,
            "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}"
        );
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
        self.family(name);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
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

    pub(crate) fn into_text(mut self) -> String {
        if self.format == ExpositionFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line() {
        let mut text = Exposition::new("p", "a gauge It.", ExpositionFormat::Text);
        text.labelled("a", [([("b", "c\"d\\e\nf".to_owned())], 1)]);
        let lines = "# HELP p_a It.\n# TYPE p_a gauge\np_a{b=\"c\\\"d\\\\e\\nf\"} 1\n";
        assert_eq!(text.into_text(), lines);
    }

    #[test]
    fn a_counter_is_named_as_the_format_names_it() {
        for (format, expected) in [
            (
                ExpositionFormat::Text,
                "# HELP p_a_total It.\n# TYPE p_a_total counter\np_a_total 2\n",
            ),
            (
                ExpositionFormat::OpenMetrics,
                "# HELP p_a It.\n# TYPE p_a counter\np_a_total 2\n# EOF\n",
            ),
        ] {
            let mut text = Exposition::new("p", "a gauge No.\na_total counter It.", format);
            text.value("a_total", 2);
            assert_eq!(text.into_text(), expected);
        }
    }

    #[test]
    fn a_scraper_is_told_in_the_format_that_it_asks_for() {
        use ExpositionFormat::{OpenMetrics, Text};
        for (accept, expected) in [
            (None, OpenMetrics),
            (Some("*/*"), Text),
            (Some("text/plain;version=0.0.4"), Text),
            (Some("application/openmetrics-text"), OpenMetrics),
            (
                Some("Application/OpenMetrics-Text; version=1.0.0, */*;q=0.1"),
                OpenMetrics,
            ),
            (Some("application/openmetrics-text;q=0, text/plain"), Text),
            (Some("application/openmetrics-text;q=0"), Text),
            (
                Some("application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.5"),
                Text,
            ),
            // Prometheus 2.53, and 3.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                     text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                OpenMetrics,
            ),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;\
                     escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                OpenMetrics,
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(ExpositionFormat::accepted(&headers), expected, "{accept:?}");
        }
    }
}
