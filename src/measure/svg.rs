//! Draws what so many connections carried as an SVG picture.

use plotters::prelude::*;

use super::plot::{ceiling, doublings};
use super::{Measured, mbit};

const WIDTH: u32 = 800;
const HEIGHT: u32 = 500;
const FONT: &str = "sans-serif";

/// Okabe and Ito's colours, which colour-blind people tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The axis of connections is in thousandths of a doubling: whole numbers can have marks of our own.
const DOUBLING: i32 = 1000;

/// The picture can't be drawn.
#[derive(Debug, thiserror::Error)]
#[error("can't draw the plot: {0}")]
pub struct Undrawable(String);

/// A picture of every end that was measured.
pub fn svg(measured: &[Measured]) -> Result<String, Undrawable> {
    let mut picture = String::new();
    draw(measured, &mut picture).map_err(|error| Undrawable(error.to_string()))?;
    Ok(picture)
}

fn draw(measured: &[Measured], picture: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let readings = || measured.iter().flat_map(|it| &it.readings);
    let rates = readings().map(|reading| mbit(reading.bits_per_second));
    let most = rates.reduce(f64::max).filter(|most| *most > 0.0);
    let right = readings().map(|reading| reading.connections).max();
    let right = across(right.unwrap_or(1)).max(DOUBLING);
    // Where a number of connections stands that is tried, and nowhere else.
    let tried: Vec<i32> = (0..i32::try_from(usize::BITS)?)
        .map(|at| at * DOUBLING)
        .take_while(|at| *at <= right)
        .collect();
    let area = SVGBackend::with_string(picture, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("What so many connections carry together", (FONT, 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (0..right).with_key_points(tried),
            0.0..ceiling(most.unwrap_or(1.0)),
        )?;
    chart
        .configure_mesh()
        .x_desc("connections")
        .y_desc("Mbit/s")
        .x_label_formatter(&|at| (1_u64 << (at / DOUBLING)).to_string())
        .label_style((FONT, 15))
        .light_line_style(WHITE)
        .draw()?;
    for (it, colour) in measured.iter().zip(COLOURS.iter().cycle()) {
        let places = it.readings.iter();
        let places: Vec<(i32, f64)> = places
            .map(|reading| (across(reading.connections), mbit(reading.bits_per_second)))
            .collect();
        chart
            .draw_series(LineSeries::new(places, colour.stroke_width(2)).point_size(4))?
            .label(it.name())
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 15))
        .draw()?;
    area.present()?;
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "at most 64 doublings")]
fn across(connections: usize) -> i32 {
    (doublings(connections) * f64::from(DOUBLING)).round() as i32
}
