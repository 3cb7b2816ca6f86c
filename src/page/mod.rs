//! Drawing: pictures as SVG, tables, and the page around them. Numbers and names in, text out; whatever a name holds is
//! escaped here.

pub mod chart;
mod frame;
pub mod heat;
mod settings;

pub use frame::{frame, tiles};
pub use settings::settings;

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
