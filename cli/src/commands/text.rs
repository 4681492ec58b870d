//! How things are written for people: tables, sizes, times.

use crate::app::App;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use std::path::Path;

pub(super) use crate::message::printable;

/// Rows in columns that line up (Japanese characters count as two), each line indented by `indent` spaces.
pub(super) fn table(header: Option<Vec<String>>, rows: Vec<Vec<String>>, indent: usize) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(header) = header {
        table.set_header(header);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let indent = " ".repeat(indent);
    let lines: Vec<String> = table.lines().map(|line| format!("{indent}{}", line.trim_end())).collect();
    lines.join("\n")
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the user's zone.
pub(super) fn time(app: &App, time: Timestamp) -> String {
    time.to_zoned(app.settings.time_zone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A path for people, [`printable`].
pub(super) fn path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
