//! Progress on a terminal; nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over bytes. Drawn on standard error, and only when the settings say so.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar named `name`; `total` bytes where known.
    pub fn new(shown: bool, name: &str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if shown {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let style =
            ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name.to_owned());
        Self(bar)
    }

    /// A count of files, with their rate and the time left.
    pub fn counting(shown: bool, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if shown {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let style =
            ProgressStyle::with_template("[{bar:30}] {human_pos}/{human_len} {per_sec} {elapsed} {eta}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// Shows that `done` bytes are done.
    pub fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }

    /// Shows that `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

/// Says on a terminal that an answer is long in coming, in one line that goes away when it is there.
#[derive(Debug)]
pub struct Waiting {
    shown: bool,
    line: Option<ProgressBar>,
}

impl Waiting {
    /// Nothing yet.
    pub fn new(shown: bool) -> Self {
        Self { shown, line: None }
    }

    /// Says it in these words.
    pub fn say(&mut self, words: String) {
        if !self.shown {
            return;
        }
        let line = self.line.get_or_insert_with(|| {
            let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                line.set_style(style);
            }
            line
        });
        line.set_message(words);
        line.tick();
    }

    /// The answer is there.
    pub fn over(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
