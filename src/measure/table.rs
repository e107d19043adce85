//! Shows findings to people: a table per end, a plot of all, and what follows.

use std::fmt::{self, Write};

use indicatif::BinaryBytes;

use super::{Findings, Measured, mbit, plot};
use crate::report::Exit;

impl Findings {
    /// At most 80 columns wide but for what is not ours to break: URLs, and sentences, which a terminal breaks. Ends in a
    /// newline.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write(&mut text)
            .expect("writing to a string can't fail");
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        for measured in &self.measured {
            measured.write(out)?;
        }
        if let Some(plot) = plot::plot(&self.measured) {
            writeln!(out, "{plot}")?;
        }
        for words in &self.advice.words {
            writeln!(out, "{words}")?;
        }
        if !self.advice.settings.is_empty() {
            let settings = &self.advice.settings;
            writeln!(out, "\nFor a file that --config names:\n\n{settings}")?;
        }
        if self.exit() == Exit::Interrupted {
            writeln!(out, "Interrupted: this is what had been measured.")?;
        }
        Ok(())
    }
}

impl Measured {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}, {}", self.name(), BinaryBytes(self.bytes))?;
        writeln!(out, "  {}", self.carried)?;
        if !self.readings.is_empty() {
            writeln!(
                out,
                "  connections    Mbit/s  each of them  in slow start  silences  breaks"
            )?;
        }
        for reading in &self.readings {
            let silences = reading
                .silences
                .map_or("-".to_owned(), |silences| silences.to_string());
            writeln!(
                out,
                "  {:>11} {:>9.2} {:>13.2} {:>14.2} {:>9} {:>7}",
                reading.connections,
                mbit(reading.bits_per_second),
                mbit(reading.bits_per_second_of_one()),
                mbit(reading.bits_per_second_at_first),
                silences,
                reading.breaks,
            )?;
        }
        if let Some(ended) = &self.ended {
            writeln!(out, "  no more connections: {ended}")?;
        }
        if let Some(broke) = &self.broke {
            writeln!(out, "  the last break: {broke}")?;
        }
        if let Some(failed) = &self.failed {
            writeln!(out, "  failed: {failed}")?;
        }
        for left in &self.left_behind {
            writeln!(out, "  left behind: {left}")?;
        }
        writeln!(out)
    }
}
