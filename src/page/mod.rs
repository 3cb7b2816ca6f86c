//! Drawing: pictures as SVG, tables, and the page around them. Numbers and names in, text out; whatever a name holds is
//! escaped here.

mod bars;
pub mod chart;
mod document;
mod frame;
pub mod heat;
mod matrix;
mod settings;
mod svg;
mod table;

pub use bars::{Bar, Bars};
pub use document::{Block, Document};
pub use frame::{frame, tiles};
pub use matrix::{Cell, Matrix};
pub use settings::{rows, settings};
pub use svg::Svg;
pub use table::{Entry, Table};

/// `text` as HTML, where names and values could hold anything.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}
