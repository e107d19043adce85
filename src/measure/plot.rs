//! Plots what so many connections carried, in characters: braille lines, and a letter for each reading. Readable without
//! colour, at most 80 columns wide.

use std::fmt::Write;

use super::{Measured, Reading, mbit};

/// Characters of the plot itself; the scale at its left has eight more.
const WIDTH: usize = 64;
const HEIGHT: usize = 13;

/// A character of braille has two columns of four dots (Unicode, "Braille Patterns").
const DOTS_WIDE: usize = 2;
const DOTS_HIGH: usize = 4;
const BRAILLE: u32 = 0x2800;
const DOTS: [[u32; DOTS_HIGH]; DOTS_WIDE] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// A plot with its legend; None where nothing was read. Ends in a newline.
pub(super) fn plot(measured: &[Measured]) -> Option<String> {
    let shown: Vec<&Measured> = measured
        .iter()
        .filter(|it| it.failed.is_none() && !it.readings.is_empty())
        .collect();
    let readings = || shown.iter().flat_map(|it| &it.readings);
    let most = readings()
        .map(|reading| mbit(reading.bits_per_second))
        .reduce(f64::max)
        .filter(|most| *most > 0.0)?;
    let connections_max = readings().map(|reading| reading.connections).max()?;
    let mut paper = Paper::new(ceiling(most), connections_max);
    for it in &shown {
        paper.draw_line(&it.readings);
    }
    for (it, letter) in shown.iter().zip('A'..='Z') {
        paper.mark(&it.readings, letter);
    }
    let mut text = paper.text();
    for (it, letter) in shown.iter().zip('A'..='Z') {
        writeln!(text, "         {letter}  {}", it.name()).expect("writing to a string can't fail");
    }
    Some(text)
}

/// The next round number: 1, 2 or 5 and noughts.
pub(super) fn ceiling(most: f64) -> f64 {
    let power = 10_f64.powf(most.log10().floor());
    let rounds = [1.0, 2.0, 5.0, 10.0];
    rounds
        .into_iter()
        .map(|round| round * power)
        .find(|ceiling| *ceiling >= most)
        .unwrap_or(10.0 * power)
}

/// Where a number of connections stands: each doubling is as far from the last.
pub(super) fn doublings(connections: usize) -> f64 {
    (connections.max(1) as f64).log2()
}

struct Paper {
    ceiling: f64,
    doublings: f64,
    dots: Vec<[u32; WIDTH]>,
    letters: Vec<[Option<char>; WIDTH]>,
}

impl Paper {
    fn new(ceiling: f64, connections_max: usize) -> Self {
        Self {
            ceiling,
            doublings: doublings(connections_max).max(1.0),
            dots: vec![[0; WIDTH]; HEIGHT],
            letters: vec![[None; WIDTH]; HEIGHT],
        }
    }

    /// A reading's place, in dots from the left and from the top.
    fn place(&self, reading: &Reading) -> (f64, f64) {
        let across = doublings(reading.connections) / self.doublings;
        let up = mbit(reading.bits_per_second) / self.ceiling;
        let (wide, high) = (WIDTH * DOTS_WIDE - 1, HEIGHT * DOTS_HIGH - 1);
        (across * wide as f64, (1.0 - up) * high as f64)
    }

    fn draw_line(&mut self, readings: &[Reading]) {
        for pair in readings.windows(2) {
            let (from, to) = (self.place(&pair[0]), self.place(&pair[1]));
            let steps = (to.0 - from.0)
                .abs()
                .max((to.1 - from.1).abs())
                .ceil()
                .max(1.0);
            let mut step = 0.0;
            while step <= steps {
                let part = step / steps;
                let (x, y) = (
                    from.0 + (to.0 - from.0) * part,
                    from.1 + (to.1 - from.1) * part,
                );
                let (x, y) = (whole(x), whole(y));
                self.dots[y / DOTS_HIGH][x / DOTS_WIDE] |= DOTS[x % DOTS_WIDE][y % DOTS_HIGH];
                step += 1.0;
            }
        }
    }

    /// Where two readings fall on each other, the letter of the first stands, and an asterisk says that there is another.
    fn mark(&mut self, readings: &[Reading], letter: char) {
        for reading in readings {
            let (x, y) = self.place(reading);
            let at = &mut self.letters[whole(y) / DOTS_HIGH][whole(x) / DOTS_WIDE];
            *at = Some(if at.is_some() { '*' } else { letter });
        }
    }

    fn text(&self) -> String {
        let mut text = "Mbit/s, by the number of connections\n".to_owned();
        for (row, (dots, letters)) in self.dots.iter().zip(&self.letters).enumerate() {
            let cells = dots.iter().zip(letters);
            let line: String = cells.map(|(dots, letter)| shown(*dots, *letter)).collect();
            let line = format!("{:>7} ┤{line}", self.tick(row));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        writeln!(text, "{:>8}└{}", "", "─".repeat(WIDTH)).expect("writing to a string can't fail");
        text.push_str(&self.scale());
        text
    }

    /// The rate that a row stands for, at every quarter of the ceiling.
    fn tick(&self, row: usize) -> String {
        let lowest = HEIGHT - 1;
        if !row.is_multiple_of(lowest / 4) {
            return String::new();
        }
        let rate = self.ceiling * (lowest - row) as f64 / lowest as f64;
        format!("{rate:.2}")
    }

    /// The numbers of connections under their places.
    fn scale(&self) -> String {
        let mut scale = " ".repeat(9);
        let mut connections = 1;
        while doublings(connections) <= self.doublings {
            let across = doublings(connections) / self.doublings;
            let at = 9 + whole(across * (WIDTH - 1) as f64);
            let number = connections.to_string();
            let at = at + 1 - number.len().min(at);
            if at > scale.len() || connections == 1 {
                let at = at.max(9);
                scale.push_str(&" ".repeat(at - scale.len()));
                scale.push_str(&number);
            }
            connections *= 2;
        }
        scale + "\n"
    }
}

fn shown(dots: u32, letter: Option<char>) -> char {
    match (letter, dots) {
        (Some(letter), _) => letter,
        (None, 0) => ' ',
        (None, dots) => char::from_u32(BRAILLE + dots).unwrap_or('·'),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place on the paper"
)]
fn whole(place: f64) -> usize {
    place.round().max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::super::Side;
    use super::*;

    fn measured(host: &str, mbits: &[f64]) -> Measured {
        let mut measured = Measured::begun(Side::Origin, format!("{host}:443"));
        measured.host = Some(host.to_owned());
        let at = |(at, mbit): (usize, &f64)| Reading {
            connections: 1 << at,
            bits_per_second: mbit * 1e6,
            bits_per_second_at_first: 0.0,
            seconds: 5.0,
            silences: None,
            breaks: 0,
        };
        measured.readings = mbits.iter().enumerate().map(at).collect();
        measured
    }

    #[test]
    fn it_fits_eighty_columns_and_marks_every_reading() {
        let lossy = measured("dl.k8s.io", &[0.7, 1.4, 2.8, 5.6, 11.0, 22.0, 49.7]);
        let clean = measured("github.com", &[40.0, 90.0, 95.0, 95.0, 96.0, 96.0, 96.0]);
        let plot = plot(&[lossy, clean]).unwrap();
        assert!(
            plot.lines().all(|line| line.chars().count() <= 80),
            "{plot}"
        );
        let count = |letter| plot.matches(letter).count();
        assert_eq!((count("A"), count("B")), (8, 8), "{plot}");
        for word in ["100.0", "1         ", "        64\n", "A  dl.k8s.io"] {
            assert!(plot.contains(word), "{word}:\n{plot}");
        }
    }

    #[test]
    fn a_single_reading_and_none_are_no_trouble() {
        assert_eq!(plot(&[]), None);
        assert_eq!(plot(&[measured("a", &[])]), None);
        assert_eq!(plot(&[measured("a", &[0.0, 0.0])]), None);
        let one = plot(&[measured("a", &[1e-3])]).unwrap();
        assert!(one.contains('A'), "{one}");
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (most, wanted) in [
            (0.7, 1.0),
            (1.0, 1.0),
            (49.7, 50.0),
            (98.0, 100.0),
            (110.0, 200.0),
        ] {
            assert!((ceiling(most) - wanted).abs() < 1e-9, "{most}");
        }
    }
}
