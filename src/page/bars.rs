//! Shares as bars with their intervals, in groups.

use std::fmt::Write as _;

use super::escape;
use super::svg::{shorten, width, Svg};

/// Groups of bars on one axis from 0 to 1.
pub struct Bars<'a> {
    /// What is seen.
    pub title: &'a str,
    /// The groups, from the top down.
    pub groups: Vec<(String, Vec<Bar<'a>>)>,
}

/// One bar.
pub struct Bar<'a> {
    /// For the legend, which names each once.
    pub name: &'a str,
    /// A CSS colour, the same for the same name.
    pub colour: &'a str,
    /// From 0 to 1.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

const WIDTH: f64 = 900.0;
const RIGHT: f64 = 64.0;
const BAR: f64 = 13.0;
const GAP: f64 = 12.0;
const LABEL: f64 = 12.0;
/// Most room for a name.
const NAME: f64 = 190.0;
const LINE: f64 = 18.0;

impl Bars<'_> {
    /// The picture.
    pub fn svg(&self) -> Svg {
        let mut body = format!("<text class=\"title\" x=\"12\" y=\"20\">{}</text>\n", escape(self.title));
        let top = self.legend(&mut body) + 14.0;
        let widest = self.groups.iter().map(|group| width(&group.0, LABEL)).fold(0.0, f64::max);
        let left = 24.0 + widest.min(NAME);
        let x = |value: f64| left + (WIDTH - RIGHT - left) * value.clamp(0.0, 1.0);
        let n_bars: usize = self.groups.iter().map(|group| group.1.len()).sum();
        let bottom = top + BAR * n_bars as f64 + GAP * self.groups.len() as f64;
        for i in 0..=5 {
            let at = x(f64::from(i) / 5.0);
            // Writing to a string cannot fail.
            let _ = writeln!(
                body,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{top:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\"/>\
                 <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} %</text>",
                bottom + 16.0,
                20 * i
            );
        }
        let mut y = top + GAP / 2.0;
        for (name, bars) in &self.groups {
            let _ = writeln!(
                body,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + BAR * bars.len() as f64 / 2.0 + 4.0,
                escape(&shorten(name, LABEL, NAME))
            );
            for bar in bars {
                bar.draw(&mut body, &x, y);
                y += BAR;
            }
            y += GAP;
        }
        Svg { width: WIDTH, height: bottom + 26.0, label: self.title.to_owned(), body }
    }

    /// Draws the legend in as many lines as it needs, and returns where it ends.
    fn legend(&self, body: &mut String) -> f64 {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for bar in self.groups.iter().flat_map(|group| &group.1) {
            if !names.iter().any(|(name, _)| *name == bar.name) {
                names.push((bar.name, bar.colour));
            }
        }
        let (mut x, mut y) = (12.0, 40.0);
        for (name, colour) in names {
            let wide = 34.0 + width(name, LABEL);
            if x + wide > WIDTH && x > 12.0 {
                (x, y) = (12.0, y + LINE);
            }
            // Writing to a string cannot fail.
            let _ = writeln!(
                body,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
                 <text class=\"label\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                y - 10.0,
                x + 16.0,
                escape(name)
            );
            x += wide;
        }
        y
    }
}

impl Bar<'_> {
    fn draw(&self, body: &mut String, x: &dyn Fn(f64) -> f64, y: f64) {
        let Self { colour, value, interval: (low, high), .. } = *self;
        let (zero, end, low, high) = (x(0.0), x(value), x(low), x(high));
        let middle = y + BAR / 2.0;
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            "<rect x=\"{zero:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <path d=\"M{low:.1},{middle:.1}H{high:.1}M{low:.1},{:.1}v6M{high:.1},{:.1}v6\" stroke=\"#1c2330\" \
             fill=\"none\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{:.1} %</text>",
            y + 1.0,
            end - zero,
            BAR - 2.0,
            middle - 3.0,
            middle - 3.0,
            high + 6.0,
            middle + 4.0,
            100.0 * value
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_their_intervals_end_where_the_axis_says() {
        let bar = |name, value, interval| Bar { name, colour: "#123", value, interval };
        let groups = vec![
            ("a task".to_owned(), vec![bar("base", 0.5, (0.25, 0.75)), bar("x<y", 1.0, (0.9, 1.0))]),
            ("another".to_owned(), vec![bar("base", 0.0, (0.0, 0.1))]),
        ];
        let svg = Bars { title: "t", groups }.svg();
        // The longest name is 7 letters of 7.2 and its margin 24; 64 are left on the right.
        let (left, right) = (24.0 + 7.0 * 7.2, 900.0 - 64.0);
        let at = |value: f64| left + (right - left) * value;
        assert!(
            svg.body.contains(&format!("width=\"{:.1}\" height=\"11.0\"", at(0.5) - left)),
            "{}",
            svg.body
        );
        let interval = format!("M{:.1},66.5H{:.1}", at(0.25), at(0.75));
        assert!(svg.body.contains(&interval), "no {interval} in {}", svg.body);
        assert_eq!(svg.body.matches(">base<").count(), 1, "the legend names each once");
        assert!(svg.body.contains("x&lt;y"));
    }
}
