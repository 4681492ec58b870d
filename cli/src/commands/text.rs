//! How things are written for people: tables, sizes, times.

use crate::app::App;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
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

/// A length of time in its two largest units.
pub(super) fn duration(app: &App, seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("unit-days", 86_400), ("unit-hours", 3600), ("unit-minutes", 60), ("unit-seconds", 1)];
    let largest = UNITS.iter().position(|(_, size)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let parts: Vec<String> = UNITS
        .iter()
        .skip(largest)
        .take(2)
        .enumerate()
        .filter_map(|(place, (unit, size))| {
            let count = rest / size;
            rest %= size;
            (place == 0 || count > 0).then(|| app.text(unit, &crate::arguments! { count: count }))
        })
        .collect();
    parts.join(" ")
}

/// A value in the query of a URL.
pub(super) fn in_query(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

/// A path for people, [`printable`].
pub(super) fn path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
