//! A table of shares as a heat map with figures: confusion matrices, weights, accuracies.

use std::fmt::Write as _;

use super::escape;
use super::svg::{shorten, width, Svg};

/// Rows and columns with a cell for each pair.
pub struct Matrix<'a> {
    /// What is seen.
    pub title: &'a str,
    /// What columns are.
    pub across: &'a str,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of the rows, each with as many cells as there are columns.
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// From 0 (white) to 1 (blue); `None` where there is nothing.
    pub share: Option<f64>,
    /// What stands in it.
    pub text: String,
    /// Whether it has a frame: where right answers belong.
    pub is_marked: bool,
}

const LABEL: f64 = 12.0;
/// Most room for a name.
const NAME: f64 = 190.0;
const TOP: f64 = 60.0;
const ROW: f64 = 28.0;
const END: [f64; 3] = [33.0, 102.0, 172.0];

impl Matrix<'_> {
    /// The picture.
    pub fn svg(&self) -> Svg {
        let room = |names: &mut dyn Iterator<Item = &String>| {
            names.map(|name| width(name, LABEL)).fold(0.0, f64::max).min(NAME)
        };
        let left = 24.0 + room(&mut self.rows.iter().map(|row| &row.0));
        let column = 18.0 + room(&mut self.columns.iter()).max(44.0);
        let right = left + column * self.columns.len() as f64;
        let mut body = format!("<text class=\"title\" x=\"12\" y=\"20\">{}</text>\n", escape(self.title));
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            "<text class=\"tick\" x=\"{left:.1}\" y=\"{:.1}\">{}</text>",
            TOP - 22.0,
            escape(self.across)
        );
        for (j, name) in self.columns.iter().enumerate() {
            let _ = writeln!(
                body,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                left + column * (j as f64 + 0.5),
                TOP - 6.0,
                escape(&shorten(name, LABEL, NAME))
            );
        }
        for (i, (name, cells)) in self.rows.iter().enumerate() {
            let y = TOP + ROW * i as f64;
            let _ = writeln!(
                body,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + ROW / 2.0 + 4.0,
                escape(&shorten(name, LABEL, NAME))
            );
            for (j, cell) in cells.iter().enumerate() {
                cell.draw(&mut body, left + column * j as f64, y, column);
            }
        }
        // Frames over all neighbours.
        for (i, (_, cells)) in self.rows.iter().enumerate() {
            for (j, _) in cells.iter().enumerate().filter(|(_, cell)| cell.is_marked) {
                let _ = writeln!(
                    body,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"none\" \
                     stroke=\"#1c2330\" stroke-width=\"1.5\"/>",
                    left + column * j as f64 + 1.0,
                    TOP + ROW * i as f64 + 1.0,
                    column - 2.0,
                    ROW - 2.0
                );
            }
        }
        let title = 24.0 + width(self.title, 14.0);
        let width = right.max(title).max(left + width(self.across, LABEL)) + 12.0;
        Svg { width, height: TOP + ROW * self.rows.len() as f64 + 12.0, label: self.title.to_owned(), body }
    }
}

impl Cell {
    fn draw(&self, body: &mut String, x: f64, y: f64, width: f64) {
        let share = self.share.filter(|share| share.is_finite()).map(|share| share.clamp(0.0, 1.0));
        let [r, g, b] = END.map(|end| (255.0 + (end - 255.0) * share.unwrap_or(0.0)).round() as u8);
        let ink = if share.unwrap_or(0.0) > 0.72 { "#fff" } else { "#1c2330" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{ROW}\" fill=\"#{r:02x}{g:02x}{b:02x}\" \
             stroke=\"#e3e7ee\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"12\" \
             fill=\"{ink}\">{}</text>",
            x + width / 2.0,
            y + ROW / 2.0 + 4.0,
            escape(&self.text)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_coloured_by_their_share_and_the_right_ones_framed() {
        let cell = |share: f64, is_marked| Cell { share: Some(share), text: format!("{share}"), is_marked };
        let nothing = Cell { text: "–".into(), ..Cell::default() };
        let matrix = Matrix {
            title: "t",
            across: "chosen",
            columns: vec!["a<".into(), "b".into()],
            rows: vec![
                ("x".into(), vec![cell(1.0, true), cell(0.0, false)]),
                ("y".into(), vec![cell(f64::NAN, false), nothing]),
            ],
        };
        let svg = matrix.svg().inline();
        assert!(svg.contains("a&lt;") && svg.contains("fill=\"#2166ac\""), "{svg}");
        assert_eq!(
            (svg.matches("fill=\"#ffffff\"").count(), svg.matches("stroke=\"#1c2330\"").count()),
            (3, 1)
        );
        // Room for two columns of the least width beside the names.
        assert!(svg.starts_with("<svg viewBox=\"0 0 167 128\""), "{svg}");
    }
}
