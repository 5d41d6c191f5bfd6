//! Which upload goes first, how fast all of them go, and at what times: rates such as "20 MB/s",
//! times of day such as "22:00".

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{ConfigError, RawReceiver, RawShipper, value};

/// Slower than this, receivers take an upload for one that stands still.
const LEAST_RATE: u64 = 10_000;
const LIMIT: &str = "receiver.bandwidth_limit";
const WINDOW: &str = "receiver.upload_window";
/// Each with how many bytes it is.
const UNITS: [(&str, f64); 11] = [
    ("B/s", 1.0),
    ("kB/s", 1e3),
    ("KB/s", 1e3),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
    ("KiB/s", 1024.0),
    ("MiB/s", 1024.0 * 1024.0),
    ("GiB/s", 1024.0 * 1024.0 * 1024.0),
    ("kbit/s", 1e3 / 8.0),
    ("Mbit/s", 1e6 / 8.0),
    ("Gbit/s", 1e9 / 8.0),
];

/// Which of the episodes that wait go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueOrder {
    /// Those that were sealed first.
    OldestFirst,
    /// Those that were sealed last.
    NewestFirst,
}

/// One of `receiver.upload_window`, as it is written.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUploadWindow {
    pub from: String,
    pub to: String,
    pub limit: Option<String>,
}

/// A part of the day in which uploads run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadWindow {
    /// Its beginning, seconds after midnight, local time.
    pub from_s: u32,
    /// Its end; where that is no later than the beginning, on the next day.
    pub to_s: u32,
    /// Bytes a second, in place of `bandwidth_limit`; `Some(None)`: as fast as it goes.
    pub limit: Option<Option<NonZeroU64>>,
}

pub(super) fn order(raw: &RawShipper) -> Result<QueueOrder, ConfigError> {
    match raw.order.as_str() {
        "oldest-first" => Ok(QueueOrder::OldestFirst),
        "newest-first" => Ok(QueueOrder::NewestFirst),
        other => Err(value(
            "shipper.order",
            format!("{other:?} is none of oldest-first, newest-first"),
        )),
    }
}

pub(super) fn limit(raw: &RawReceiver) -> Result<Option<NonZeroU64>, ConfigError> {
    rate(LIMIT, &raw.bandwidth_limit)
}

pub(super) fn windows(raw: &RawReceiver) -> Result<Vec<UploadWindow>, ConfigError> {
    let windows = raw.upload_window.iter().map(|window| {
        let (from_s, to_s) = (time(&window.from)?, time(&window.to)?);
        if from_s == to_s {
            let message = format!(
                "a window from {:?} to {:?} is empty; for the whole day write from = \"00:00\", to = \"24:00\"",
                window.from, window.to
            );
            return Err(value(WINDOW, message));
        }
        let limit = window.limit.as_deref().map(|text| rate(WINDOW, text)).transpose()?;
        Ok(UploadWindow { from_s, to_s: to_s % 86_400, limit })
    });
    windows.collect()
}

/// "20 MB/s"; "0" for none.
fn rate(key: &'static str, text: &str) -> Result<Option<NonZeroU64>, ConfigError> {
    let text = text.trim();
    if text == "0" {
        return Ok(None);
    }
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
    let (Ok(number), Some((_, bytes))) = (number.parse::<f64>(), unit) else {
        let message = format!(
            "{text:?} is no rate; write for example \"20 MB/s\", \"512 KiB/s\", \"16 Mbit/s\", or \"0\""
        );
        return Err(value(key, message));
    };
    let rate = number * bytes;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within bounds by then"
    )]
    let whole = if (LEAST_RATE as f64..1e15).contains(&rate) {
        NonZeroU64::new(rate as u64)
    } else {
        None
    };
    let too_far = || {
        let message = format!(
            "{text:?} is not between 10 kB/s and 1000 TB/s: slower, receivers take an upload for one that stands still"
        );
        value(key, message)
    };
    whole.map(Some).ok_or_else(too_far)
}

/// "22:00", seconds after midnight; "24:00" for the end of the day.
fn time(text: &str) -> Result<u32, ConfigError> {
    let parsed = text.split_once(':').and_then(|(hours, minutes)| {
        let number = |text: &str| {
            let two_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            two_digits.then(|| text.parse::<u32>().ok()).flatten()
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        ((hours < 24 && minutes < 60) || (hours, minutes) == (24, 0))
            .then_some(hours * 3600 + minutes * 60)
    });
    parsed.ok_or_else(|| {
        value(
            WINDOW,
            format!("{text:?} is no time of day; write for example \"06:00\" or \"22:30\""),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Option<u64>, Vec<UploadWindow>), String> {
        let raw = super::super::raw::parse(&format!("[receiver]\n{text}"))?.receiver;
        let both = || Ok((limit(&raw)?.map(NonZeroU64::get), windows(&raw)?));
        both().map_err(|error: ConfigError| error.to_string())
    }

    #[test]
    fn rates_are_written_as_people_write_them() {
        for (text, bytes) in [
            ("0", None),
            ("20 MB/s", Some(20_000_000)),
            ("20MB/s", Some(20_000_000)),
            ("1.5 MiB/s", Some(1_572_864)),
            ("512 KiB/s", Some(524_288)),
            ("16 Mbit/s", Some(2_000_000)),
            ("10 kB/s", Some(10_000)),
        ] {
            assert_eq!(
                read(&format!("bandwidth_limit = '{text}'")).unwrap().0,
                bytes,
                "{text}"
            );
        }
        for text in [
            "20",
            "20 MB",
            "fast",
            "-1 MB/s",
            "",
            "1 kB/s",
            "1.2.3 MB/s",
            "9999999999 GB/s",
            "20 mb/s",
        ] {
            let error = read(&format!("bandwidth_limit = '{text}'")).unwrap_err();
            assert!(
                error.starts_with("receiver.bandwidth_limit: "),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn windows_have_two_times_and_perhaps_a_limit() {
        let text = "upload_window = [{ from = '22:00', to = '06:30' }, { from = '06:30', to = '24:00', limit = '2 MB/s' }, \
                    { from = '00:00', to = '01:00', limit = '0' }]";
        let window = |from_s, to_s, limit| UploadWindow {
            from_s,
            to_s,
            limit,
        };
        let expected = [
            window(79_200, 23_400, None),
            window(23_400, 0, Some(NonZeroU64::new(2_000_000))),
            window(0, 3600, Some(None)),
        ];
        assert_eq!(read(text).unwrap().1, expected);
        for (window, says) in [
            ("{ from = '22:00', to = '22:00' }", "is empty"),
            ("{ from = '25:00', to = '06:00' }", "is no time of day"),
            ("{ from = '24:01', to = '06:00' }", "is no time of day"),
            ("{ from = '6:00', to = '07:00' }", "is no time of day"),
            (
                "{ from = '22:00', to = '06:00', limit = 'slow' }",
                "is no rate",
            ),
            ("{ from = '22:00' }", "missing field `to`"),
            (
                "{ from = '22:00', to = '06:00', rate = '1 MB/s' }",
                "unknown field",
            ),
        ] {
            let error = read(&format!("upload_window = [{window}]")).unwrap_err();
            assert!(
                error.contains(says) && error.contains("upload_window"),
                "{window}: {error}"
            );
        }
    }
}
