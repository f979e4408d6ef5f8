//! Which fields of an event stand in its line.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// Formats the message and the fields of an event, without the fields that the message has said already: flannel's
/// own sentences contain their values, which are fields as well, for the journal.
pub(super) struct ShownFields;

impl<'w> FormatFields<'w> for ShownFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut message = Message(String::new());
        fields.record(&mut message);
        let line = DefaultVisitor::new(writer, true);
        let mut shown = Shown { message: &message.0, line };
        fields.record(&mut shown);
        shown.line.finish()
    }
}

/// The message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == MESSAGE {
            // A string takes every text.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Passes on what the line shows.
struct Shown<'a, 'w> {
    message: &'a str,
    line: DefaultVisitor<'w>,
}

impl Shown<'_, '_> {
    fn is_news(&self, field: &Field, text: &str) -> bool {
        let words = || self.message.split(|c: char| c.is_whitespace() || "(),".contains(c));
        let is_said = || words().any(|word| word.trim_end_matches(['.', ':', ';']) == text);
        field.name() != KIND && (text.len() < SHORTEST_REPEATED || !is_said())
    }
}

impl Visit for Shown<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE || self.is_news(field, value) {
            self.line.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.line.record_error(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == MESSAGE || self.is_news(field, &format!("{value:?}")) {
            self.line.record_debug(field, value);
        }
    }
}

/// The field that holds the sentence itself.
pub(super) const MESSAGE: &str = "message";

/// The field that says what an event is about, for `journalctl FLANNEL_KIND=`; the sentence says it too.
const KIND: &str = "kind";

/// Length of the shortest address. A number or a word that is shorter may stand in a message by chance.
const SHORTEST_REPEATED: usize = "1.2.3.4".len();
