//! The developer's terminal. Writes whole lines, one at a time, in colour if standard error is a terminal. Knows nothing about
//! their content.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use parking_lot::Mutex;

use cloakroom_base::telemetry;
use cloakroom_base::telemetry::{FlushOnDrop, escape};
use cloakroom_host::config::Environment;

/// A destination for lines. Clones write to the same destination.
#[derive(Clone)]
pub(crate) struct Console {
    to: Arc<Mutex<Box<dyn Write + Send>>>,
    color: ColorMode,
}

/// Whether lines contain colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColorMode {
    /// The terminal's colours are used.
    Coloured,
    /// No colours, because the output is not a terminal or `NO_COLOR` is set.
    Plain,
}

/// The style of a piece of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextStyle {
    /// The terminal's default style.
    Plain,
    /// Secondary information.
    Dim,
    /// The subject of the line.
    Bold,
    /// A success.
    Green,
    /// A warning.
    Yellow,
    /// An error.
    Red,
    /// The content of a session.
    Cyan,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("color", &self.color)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// Returns a console on standard error. It is coloured on a terminal unless `NO_COLOR` (https://no-color.org) is set. Keep
    /// the second value until the last line is written.
    ///
    /// # Errors
    /// Returns an error if the writer thread cannot be started.
    pub(crate) fn stderr(environment: &dyn Environment) -> io::Result<(Self, FlushOnDrop)> {
        let no_color = environment.get("NO_COLOR");
        let is_wanted = no_color.is_none_or(|value| value.is_empty());
        let color = if is_wanted && io::stderr().is_terminal() {
            ColorMode::Coloured
        } else {
            ColorMode::Plain
        };
        let (stderr, flush) = telemetry::stderr()?;
        Ok((Self::to(stderr, color), flush))
    }

    /// Returns a console that writes to `place`.
    pub(crate) fn to(place: impl Write + Send + 'static, color: ColorMode) -> Self {
        Self {
            to: Arc::new(Mutex::new(Box::new(place))),
            color,
        }
    }

    /// Writes the pieces as one line. Control characters in them are escaped.
    pub(crate) fn line(&self, pieces: &[(TextStyle, &str)]) {
        let mut line = String::new();
        for (style, text) in pieces {
            let code = match self.color {
                ColorMode::Coloured => style.code(),
                ColorMode::Plain => "",
            };
            line.push_str(code);
            line.push_str(&escape(text));
            if !code.is_empty() {
                line.push_str("\x1b[0m");
            }
        }
        line.push('\n');
        let mut to = self.to.lock();
        // An error is ignored: if the terminal is gone, there is no place to report that.
        let _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
    }
}

impl TextStyle {
    /// Returns the terminal code of the style (ECMA-48, SGR).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
            Self::Cyan => "\x1b[36m",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Records the output of a console.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(color: ColorMode, pieces: &[(TextStyle, &str)]) -> String {
        let captured = Captured::default();
        Console::to(captured.clone(), color).line(pieces);
        captured.text()
    }

    #[test]
    fn a_line_is_coloured_only_where_that_is_wanted() {
        let pieces = [(TextStyle::Red, "500"), (TextStyle::Plain, " x")];
        assert_eq!(
            written(ColorMode::Coloured, &pieces),
            "\x1b[31m500\x1b[0m x\n"
        );
        assert_eq!(written(ColorMode::Plain, &pieces), "500 x\n");
    }

    #[test]
    fn terminal_control_characters_are_escaped() {
        let line = written(
            ColorMode::Plain,
            &[(TextStyle::Plain, "a\x1b[2Jb\nc\u{202e}d")],
        );
        assert_eq!(line, "a\\u{1b}[2Jb\\nc\\u{202e}d\n");
    }
}
