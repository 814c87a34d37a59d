//! The run as a picture: how old the newest point was at each moment, which points there were, and where the machine ran.

use crate::watch::Watch;
use plotters::prelude::*;
use site_recovery::{Consistency, Error, ErrorKind, Result, Timestamp};
use std::path::Path;

const SIZE: (u32, u32) = (960, 360);

/// Draws it.
///
/// # Errors
/// Those of the file system.
pub(crate) fn draw(watch: &Watch, to: &Path) -> Result<()> {
    drawn(watch, to)
        .map_err(|e| Error::new(ErrorKind::Unavailable, format!("cannot draw {}: {e}", to.display())))
}

fn drawn(watch: &Watch, to: &Path) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let seen = watch.seen();
    let x = |at: Timestamp| at.since(watch.began).as_secs_f64();
    let end = seen.marks.iter().map(|m| x(m.at)).chain(seen.rpo.iter().map(|r| x(r.0))).fold(1.0, f64::max);
    let oldest = seen.rpo.iter().map(|r| r.1.as_secs_f64()).fold(1.0, f64::max) * 1.25;

    let area = SVGBackend::new(to, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .caption("grey points are crash-consistent, green ones quiesced by the guest", ("sans-serif", 13))
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..end * 1.08, 0.0..oldest)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("seconds")
        .y_desc("age of the newest point, seconds")
        .light_line_style(WHITE)
        .draw()?;
    chart.draw_series(
        AreaSeries::new(seen.rpo.iter().map(|(at, age)| (x(*at), age.as_secs_f64())), 0.0, BLUE.mix(0.12))
            .border_style(BLUE.mix(0.7)),
    )?;
    for (taken, consistency) in &seen.points {
        let quiesced = *consistency >= Consistency::FileSystem;
        let colour = if quiesced { RGBColor(0, 140, 70) } else { RGBColor(60, 60, 60) };
        chart.draw_series(std::iter::once(Circle::new((x(*taken), 0.0), 4, colour.filled())))?;
    }
    for (n, mark) in seen.marks.iter().enumerate() {
        let at = x(mark.at);
        chart.draw_series(LineSeries::new([(at, 0.0), (at, oldest)], RED.mix(0.5)))?;
        let height = oldest * (0.97 - 0.07 * (n % 5) as f64);
        let text = Text::new(mark.what.clone(), (at + end * 0.004, height), ("sans-serif", 13).into_font());
        chart.draw_series(std::iter::once(text))?;
    }
    area.present()?;
    Ok(())
}
