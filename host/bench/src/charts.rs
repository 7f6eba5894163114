//! The report as charts, after the figures of the thesis: bars by job, one for each system, with the spread of the rounds.
//!
//! The letters come with us (the font Hack), so that a chart looks the same on every host and none need have fonts.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, register_font};

use crate::boot::{BootReport, BootRow, Program};
use crate::figures::Spread;
use crate::job::Group;
use crate::number::short;
use crate::report::{Report, Row};
use crate::system::Kind;

const SIZE: (u32, u32) = (1280, 620);
const FONT: &str = "sans-serif";
/// Of the place of a job, this part is left free between it and the next.
const GAP: f64 = 0.12;

/// Draws a chart for each group of jobs that was measured into `folder`, as SVG and as PNG.
///
/// # Errors
/// A file that cannot be written, and why.
pub fn draw(report: &Report, folder: &Path) -> Result<(), String> {
    save(Group::ALL.iter().filter_map(|group| Chart::of(report, *group)), folder)
}

/// Draws a chart for each program that was started into `folder`, as SVG and as PNG.
///
/// # Errors
/// A file that cannot be written, and why.
pub fn draw_boot(report: &BootReport, folder: &Path) -> Result<(), String> {
    save(Program::ALL.iter().filter_map(|program| Chart::of_starts(report, *program)), folder)
}

fn save(charts: impl Iterator<Item = Chart>, folder: &Path) -> Result<(), String> {
    if register_font(FONT, FontStyle::Normal, epaint_default_fonts::HACK_REGULAR).is_err() {
        return Err("the font we bring is not one".to_owned());
    }
    for chart in charts {
        let path = |kind: &str| folder.join(format!("{}.{kind}", chart.slug));
        let (svg, png) = (path("svg"), path("png"));
        chart
            .draw(&SVGBackend::new(&svg, SIZE).into_drawing_area())
            .map_err(|error| format!("{}: {error}", svg.display()))?;
        chart
            .draw(&BitMapBackend::new(&png, SIZE).into_drawing_area())
            .map_err(|error| format!("{}: {error}", png.display()))?;
    }
    Ok(())
}

/// What one chart shows.
struct Chart {
    /// As part of its files' names.
    slug: String,
    caption: String,
    unit: &'static str,
    jobs: Vec<String>,
    systems: Vec<Kind>,
    bars: Vec<Bar>,
}

/// One system's figure for one job.
struct Bar {
    job: usize,
    system: usize,
    rate: Spread,
}

impl Chart {
    /// Of what was measured in `group`; nothing if nothing was.
    fn of(report: &Report, group: Group) -> Option<Self> {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.group == group).collect();
        let mut jobs: Vec<String> = rows.iter().map(|row| row.job.clone()).collect();
        jobs.dedup();
        let mut systems: Vec<Kind> = rows.iter().map(|row| row.system).collect();
        systems.sort_unstable();
        systems.dedup();
        let bar = |row: &&Row| {
            let (rate, unit) = if row.moves_data { (row.bytes_per_s?, 1e6) } else { (row.operations_per_s?, 1e3) };
            Some(Bar {
                job: jobs.iter().position(|job| *job == row.job)?,
                system: systems.iter().position(|system| *system == row.system)?,
                rate: Spread { median: rate.median / unit, min: rate.min / unit, max: rate.max / unit },
            })
        };
        let bars: Vec<Bar> = rows.iter().filter_map(bar).collect();
        if bars.is_empty() {
            return None;
        }
        let disturbed = if rows.iter().any(|row| row.disturbed > 0) { "; the computer was busy" } else { "" };
        let amounts = &report.amounts;
        Some(Self {
            slug: group.slug(),
            caption: format!(
                "{}: median, least and greatest of {} x {} s, {} MiB{disturbed}",
                group.title(),
                amounts.rounds,
                amounts.time.as_secs_f64(),
                amounts.size >> 20
            ),
            unit: if rows.iter().any(|row| row.moves_data) { "MB/s" } else { "thousands a second" },
            jobs,
            systems,
            bars,
        })
    }

    /// Of how long `program` took to start; nothing if it never did.
    fn of_starts(report: &BootReport, program: Program) -> Option<Self> {
        let rows: Vec<_> = report.rows.iter().filter(|row| row.program == program && row.ms.is_some()).collect();
        let bar = |(system, row): (usize, &&BootRow)| Some(Bar { job: 0, system, rate: row.ms? });
        let bars: Vec<_> = rows.iter().enumerate().filter_map(bar).collect();
        let disturbed = if rows.iter().any(|row| row.disturbed > 0) { "; the computer was busy" } else { "" };
        (!bars.is_empty()).then(|| Self {
            slug: format!("start-{}", program.name()),
            caption: format!("{}: median, least and greatest of {} starts{disturbed}", program.title(), report.rounds),
            unit: "milliseconds, command to end",
            jobs: vec![program.name().to_owned()],
            systems: rows.iter().map(|row| row.system).collect(),
            bars,
        })
    }

    /// From where to where a bar goes, in places of jobs.
    fn place(&self, bar: &Bar) -> (f64, f64) {
        let width = (1.0 - 2.0 * GAP) / self.systems.len() as f64;
        let left = bar.job as f64 + GAP + bar.system as f64 * width;
        (left, left + width * 0.92)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let most = self.bars.iter().map(|bar| bar.rate.max).fold(f64::MIN_POSITIVE, f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.caption, (FONT, 18))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(76)
            // Room for the numbers on top of the bars, and the legend beside them.
            .build_cartesian_2d(0.0..self.jobs.len() as f64, 0.0..most * 1.3)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_desc(self.unit)
            .y_label_formatter(&|value| if *value == 0.0 { "0".to_owned() } else { short(*value) })
            .label_style((FONT, 13))
            .light_line_style(WHITE)
            .draw()?;
        for (index, system) in self.systems.iter().enumerate() {
            let bars = self.bars.iter().filter(|bar| bar.system == index);
            let bodies = bars.map(|bar| {
                let (left, right) = self.place(bar);
                Rectangle::new([(left, 0.0), (right, bar.rate.median)], colour(*system).filled())
            });
            chart
                .draw_series(bodies)?
                .label(system.name())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour(*system).filled()));
        }
        chart.draw_series(self.bars.iter().map(|bar| {
            let (left, right) = self.place(bar);
            PathElement::new([((left + right) / 2.0, bar.rate.min), ((left + right) / 2.0, bar.rate.max)], BLACK)
        }))?;
        let upright = (FONT, 11)
            .into_font()
            .transform(FontTransform::Rotate270)
            .color(&BLACK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series(self.bars.iter().map(|bar| {
            let (left, right) = self.place(bar);
            let at = EmptyElement::at(((left + right) / 2.0, bar.rate.max));
            at + Text::new(short(bar.rate.median), (0, -5), upright.clone())
        }))?;
        let below = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
        chart.draw_series(self.jobs.iter().enumerate().map(|(index, job)| {
            EmptyElement::at((index as f64 + 0.5, 0.0)) + Text::new(job.clone(), (0, 8), below.clone())
        }))?;
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 13))
            .draw()?;
        area.present()
    }
}

/// The same for a system on every chart; the host is grey, Diolkos blue and green, its peers warm.
fn colour(system: Kind) -> RGBColor {
    match system {
        Kind::Host => RGBColor(110, 110, 110),
        Kind::Dax => RGBColor(31, 94, 168),
        Kind::Nodax => RGBColor(112, 173, 220),
        Kind::Rofs => RGBColor(150, 190, 90),
        Kind::Ramfs => RGBColor(64, 145, 108),
        Kind::Qemu => RGBColor(140, 110, 190),
        Kind::QemuLinux => RGBColor(214, 96, 77),
        Kind::Gvisor => RGBColor(235, 160, 60),
        Kind::Uml => RGBColor(160, 90, 44),
    }
}
