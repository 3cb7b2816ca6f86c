//! A line chart as SVG.

use std::fmt::Write as _;

use super::escape;
use super::svg::{self, Svg};

/// Lines over steps.
pub struct Chart<'a> {
    /// What is seen, with its unit.
    pub title: &'a str,
    /// The lines.
    pub series: Vec<Series<'a>>,
    /// Whether the y axis begins at 0 and ends at 1 or more; otherwise it fits the values.
    pub is_share: bool,
}

/// One line.
pub struct Series<'a> {
    /// For the legend.
    pub name: &'a str,
    /// A CSS colour.
    pub colour: &'a str,
    /// Step and value, by step.
    pub points: Vec<(f64, f64)>,
    /// Low and high end of each point's interval; as many as points, or none.
    pub intervals: Vec<(f64, f64)>,
    /// Thin and pale, behind a smoother one.
    pub is_faint: bool,
}

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;
/// About how many lines an axis has.
const TICKS: f64 = 5.0;

impl Chart<'_> {
    /// The picture; a note where there is nothing to see.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        if points().next().is_none() {
            return String::new();
        }
        let last = points().map(|point| point.0).fold(1.0, f64::max);
        let ends =
            self.series.iter().flat_map(|series| &series.intervals).flat_map(|&(low, high)| [low, high]);
        let values: Vec<_> = points().map(|point| point.1).chain(ends).filter(|y| y.is_finite()).collect();
        let (mut low, mut high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &y| (low.min(y), high.max(y)));
        if self.is_share {
            (low, high) = (0.0, 1.0);
        } else if high - low <= 1e-9 * high.abs().max(1e-9) {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let tick = nice((high - low) / TICKS);
        (low, high) = ((low / tick).floor() * tick, (high / tick).ceil() * tick);
        let x = |step: f64| LEFT + (WIDTH - LEFT - RIGHT) * step / last;
        let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low);

        let mut body = format!("<text class=\"title\" x=\"{LEFT}\" y=\"16\">{}</text>\n", escape(self.title));
        let n_lines = ((high - low) / tick).round() as usize;
        for i in 0..=n_lines {
            let value = low + tick * i as f64;
            let at = y(value);
            // Writing to a string cannot fail.
            let _ = writeln!(
                body,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                number(value, tick)
            );
        }
        let step = nice(last / TICKS).max(1.0);
        for i in 0..=(last / step) as usize {
            let value = step * i as f64;
            let _ = writeln!(
                body,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                x(value),
                HEIGHT - BOTTOM + 16.0
            );
        }
        let _ = writeln!(
            body,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">step</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0
        );
        for series in &self.series {
            series.draw(&mut body, &x, &y);
        }
        self.legend(&mut body);
        Svg { width: WIDTH, height: HEIGHT, label: self.title.into(), body }.inline()
    }

    fn legend(&self, svg: &mut String) {
        let mut right = WIDTH - RIGHT;
        for series in self.series.iter().rev() {
            let width = svg::width(series.name, 11.0);
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"16\">{}</text>\
                 <line x1=\"{:.1}\" y1=\"12\" x2=\"{:.1}\" y2=\"12\" stroke=\"{}\" stroke-width=\"{}\"{}/>",
                right - width,
                escape(series.name),
                right - width - 20.0,
                right - width - 5.0,
                series.colour,
                if series.is_faint { 1.0 } else { 2.5 },
                if series.is_faint { " opacity=\"0.45\"" } else { "" },
            );
            right -= width + 32.0;
        }
    }
}

impl Series<'_> {
    fn draw(&self, svg: &mut String, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) {
        let points: Vec<_> = self
            .points
            .iter()
            .filter(|point| point.1.is_finite())
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let (width, opacity) = if self.is_faint { (1.0, 0.45) } else { (2.0, 1.0) };
        if !self.intervals.is_empty() {
            let edge = |of: fn(&(f64, f64)) -> f64| {
                let point = move |(point, interval): (&(f64, f64), &(f64, f64))| {
                    format!("{:.1},{:.1}", x(point.0), y(of(interval)))
                };
                self.points.iter().zip(&self.intervals).map(point).collect::<Vec<_>>()
            };
            let mut outline = edge(|interval| interval.1);
            outline.extend(edge(|interval| interval.0).into_iter().rev());
            let _ = writeln!(
                svg,
                "<polygon points=\"{}\" fill=\"{}\" opacity=\"0.15\"/>",
                outline.join(" "),
                self.colour
            );
        }
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\" opacity=\"{opacity}\"/>",
            points.join(" "),
            self.colour
        );
        if !self.intervals.is_empty() || points.len() == 1 {
            for point in points.iter().filter_map(|point| point.split_once(',')) {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{}\" cy=\"{}\" r=\"3\" fill=\"{}\"/>",
                    point.0, point.1, self.colour
                );
            }
        }
    }
}

/// The smallest of 1, 2, 5 times a power of 10 that is not below `x`.
fn nice(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|&nice| nice >= x * 0.999)
        .unwrap_or(10.0 * power)
}

/// `value` with as many digits as steps of `tick` need.
fn number(value: f64, tick: f64) -> String {
    let digits = (-tick.log10().floor()).clamp(0.0, 9.0) as usize;
    // No "-0".
    format!("{:.digits$}", value + 0.0)
}

/// Means of up to `n` points around each: the trend.
pub fn smooth(points: &[(f64, f64)], n: usize) -> Vec<(f64, f64)> {
    let mean = |i: usize| {
        let near = &points[i.saturating_sub(n / 2)..(i + n / 2 + 1).min(points.len())];
        (points[i].0, near.iter().map(|point| point.1).sum::<f64>() / near.len() as f64)
    };
    (0..points.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        for (x, tick) in [(0.03, 0.05), (1.0, 1.0), (1.2, 2.0), (70.0, 100.0), (0.2, 0.2)] {
            assert!((nice(x) / tick - 1.0).abs() < 1e-9, "{x}: {}", nice(x));
        }
        assert_eq!(number(0.25, 0.05), "0.25");
        assert_eq!(number(-0.0, 1.0), "0");
    }

    #[test]
    fn points_land_where_the_axes_say() {
        let series = Series {
            name: "a<b",
            colour: "#000",
            points: vec![(0.0, 0.0), (10.0, 1.0)],
            intervals: Vec::new(),
            is_faint: false,
        };
        let svg = Chart { title: "t", series: vec![series], is_share: true }.svg();
        // The bottom left and the top right corner of the plot.
        assert!(svg.contains("points=\"52.0,210.0 506.0,34.0\""), "{svg}");
        assert!(svg.contains("a&lt;b"), "{svg}");
    }

    #[test]
    fn the_trend_is_a_mean_of_neighbours() {
        let points: Vec<_> = [0.0, 3.0, 0.0, 3.0].iter().enumerate().map(|(i, &y)| (i as f64, y)).collect();
        assert_eq!(smooth(&points, 3), [(0.0, 1.5), (1.0, 1.0), (2.0, 2.0), (3.0, 1.5)]);
    }
}
