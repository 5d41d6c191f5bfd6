//! One line of the log, by itself: what an event says, so that another thread can say it later.

use std::{cell::Cell, fmt};

use jiff::Timestamp;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{DisplayValue, Field, Value, Visit, display},
    span,
};

use crate::model::snapshot::journal::VERDICT;

/// What a line takes beside its texts, about: itself, a field of it.
const LINE_BYTES: usize = 200;
const FIELD_BYTES: usize = 40;

/// The log speaks of itself in events with this target.
pub(super) const ABOUT_THE_LOG: &str = "sealift::log";

thread_local! {
    /// When what is written just now by this thread was said.
    static SAID_AT: Cell<Option<Timestamp>> = const { Cell::new(None) };
}

/// When the line that is written by this thread was said: earlier perhaps, by another one.
pub(super) fn said_at() -> Timestamp {
    SAID_AT.get().unwrap_or_else(Timestamp::now)
}

/// How much a line is worth where not all can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Good to know.
    Chatter,
    /// A warning, an error, or what became of an episode: for many that is the one line there is.
    Matters,
    /// How many others are missing: there is one such line at a time.
    AboutTheLog,
}

/// What an event says.
#[derive(Debug)]
pub(super) struct LogLine {
    pub(super) at: Timestamp,
    metadata: &'static Metadata<'static>,
    /// In the order of the event's fields; `None` where it says nothing of one.
    said: Vec<Option<FieldValue>>,
    pub(super) bytes: usize,
}

#[derive(Debug)]
enum FieldValue {
    /// It was a text, and a sink that puts texts in quotes puts it in quotes.
    Text(String),
    /// Anything else, as it is shown.
    Shown(DisplayValue<String>),
}

impl LogLine {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let fields = metadata.fields().len();
        let mut line = Self {
            at: Timestamp::now(),
            metadata,
            said: std::iter::repeat_with(|| None).take(fields).collect(),
            bytes: LINE_BYTES + fields * FIELD_BYTES,
        };
        event.record(&mut line);
        line
    }

    pub(super) fn worth(&self) -> Worth {
        if self.metadata.target() == ABOUT_THE_LOG {
            Worth::AboutTheLog
        } else if *self.metadata.level() <= Level::WARN
            || self.metadata.fields().field(VERDICT).is_some()
        {
            Worth::Matters
        } else {
            Worth::Chatter
        }
    }

    /// Adds to its message that it comes late, for a journal that stamps it when it comes.
    pub(super) fn tell_when_it_was_said(&mut self) {
        let Some(message) = self.metadata.fields().field("message") else {
            return;
        };
        if let Some(Some(FieldValue::Shown(text))) = self.said.get_mut(message.index()) {
            *text = display(format!("{text} (said at {:.0}, and written late)", self.at));
        }
    }

    /// The same event again, for `sink`: in no span, since this program opens none.
    pub(super) fn write(&self, sink: &dyn Subscriber) {
        SAID_AT.set(Some(self.at));
        let values: Vec<Option<&dyn Value>> = self
            .said
            .iter()
            .map(|said| said.as_ref().map(FieldValue::value))
            .collect();
        // Hidden in the crate's documentation, since its macros alone were to call it; there is no
        // other way to make an event of data. The values are those of all fields, in order, as it
        // asks.
        let values = self.metadata.fields().value_set_all(&values);
        sink.event(&Event::new_child_of(
            None::<span::Id>,
            self.metadata,
            &values,
        ));
        SAID_AT.set(None);
    }

    fn say(&mut self, field: &Field, bytes: usize, said: FieldValue) {
        if let Some(place) = self.said.get_mut(field.index()) {
            *place = Some(said);
            self.bytes += bytes;
        }
    }
}

impl Visit for LogLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, value.len(), FieldValue::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let shown = format!("{value:?}");
        self.say(field, shown.len(), FieldValue::Shown(display(shown)));
    }
}

impl FieldValue {
    fn value(&self) -> &dyn Value {
        match self {
            Self::Text(text) => text,
            Self::Shown(shown) => shown,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing::subscriber::with_default;
    use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt as _};

    use super::*;
    use crate::cli::logging::{LogSink, lines};

    /// Keeps what is said.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<LogLine>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(LogLine::of(event));
        }
    }

    /// The lines of what `say` says.
    pub(in crate::cli::logging) fn said(say: impl FnOnce()) -> Vec<LogLine> {
        let kept = Kept::default();
        with_default(Registry::default().with(kept.clone()), say);
        std::mem::take(&mut *kept.0.lock().unwrap())
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn sink(&self) -> LogSink {
            let written = self.clone();
            lines(move || written.clone())
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn say_everything() {
        let (id, none) = ("run-1", None::<u64>);
        tracing::info!(
            EPISODE = %id, VERDICT = "delivered", STATUS_CODE = 201_u16, SEEN_MS = none, BYTES = Some(5_u64),
            "shipped {id}\nnow"
        );
        tracing::error!(path = ?"a b", ratio = 0.5, sound = true, error = %io::Error::other("a=b"), "fields\u{1b}[2J");
        tracing::debug!("plain");
    }

    #[test]
    fn a_line_that_another_writes_reads_as_if_it_had_been_written_at_once() {
        let (at_once, later) = (Written::default(), Written::default());
        with_default(at_once.sink(), say_everything);
        let sink = later.sink();
        for line in said(say_everything) {
            line.write(&sink);
        }
        // But for the moment, which stands first.
        let timeless = |text: String| -> Vec<String> {
            text.lines()
                .map(|line| line.split_once(' ').unwrap().1.trim().to_owned())
                .collect()
        };
        let lines = timeless(later.text());
        assert_eq!(lines, timeless(at_once.text()));
        assert_eq!(
            lines[0],
            "INFO shipped run-1\\nnow EPISODE=run-1 VERDICT=\"delivered\" STATUS_CODE=201 BYTES=5"
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_line_has_the_time_at_which_it_was_said() {
        let mut said = said(|| tracing::info!("a"));
        said[0].at = "2026-11-24T10:00:05.25Z".parse().unwrap();
        let written = Written::default();
        said[0].write(&written.sink());
        assert_eq!(written.text(), "2026-11-24T10:00:05.250000Z  INFO a\n");
        said[0].tell_when_it_was_said();
        said[0].write(&written.sink());
        assert!(
            written
                .text()
                .ends_with("INFO a (said at 2026-11-24T10:00:05Z, and written late)\n")
        );
    }

    #[test]
    fn warnings_and_what_became_of_an_episode_matter_and_the_rest_is_chatter() {
        let said = said(|| {
            tracing::error!("a");
            tracing::warn!("a");
            tracing::info!(VERDICT = "delivered", "a");
            tracing::info!("a");
            tracing::debug!("a");
            tracing::warn!(target: ABOUT_THE_LOG, "a");
        });
        let worth: Vec<_> = said.iter().map(LogLine::worth).collect();
        use Worth::{AboutTheLog, Chatter, Matters};
        assert_eq!(
            worth,
            [Matters, Matters, Matters, Chatter, Chatter, AboutTheLog]
        );
    }
}
