//! The page around pictures and tables: one HTML file that needs nothing from elsewhere.

use std::fmt::Write as _;

use super::{escape, svg};

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2330; background: #fff; max-width: 1100px; \
margin: 32px auto; padding: 0 20px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 18px; margin: 34px 0 10px }
p.sub { color: #5b6577; margin: 4px 0 22px }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px }
.tile { border: 1px solid #e3e7ee; border-radius: 8px; padding: 10px 14px }
.tile b { display: block; font-size: 22px } .tile span { color: #5b6577; font-size: 13px }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px }
.charts svg { border: 1px solid #e3e7ee; border-radius: 8px }
svg { width: 100%; height: auto; background: #fff }
table { border-collapse: collapse; font-size: 14px } td { padding: 3px 22px 3px 0; border-bottom: 1px solid #eef0f4 }
td:first-child { color: #5b6577 } code { font-size: 13px }
.wide { overflow-x: auto; margin-bottom: 16px } small { display: block; color: #5b6577; font-size: 11.5px; line-height: 1.35 }
th { text-align: left; font-weight: 600; padding: 3px 22px 3px 0; border-bottom: 1px solid #c9d0db }
.figures td { vertical-align: top; white-space: nowrap } .figures td.long { white-space: normal; overflow-wrap: anywhere }";

/// The page with this title, a line under it, and `body`, which is HTML.
pub fn frame(title: &str, subtitle: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title>\n<style>\n{STYLE}\n{2}\n</style>\
         </head><body>\n<h1>{0}</h1>\n<p class=\"sub\">{1}</p>\n{body}\n</body></html>\n",
        escape(title),
        escape(subtitle),
        svg::STYLE,
    )
}

/// Figures with what they are.
pub fn tiles(tiles: &[(String, String)]) -> String {
    let mut html = String::new();
    for (figure, label) in tiles {
        // Writing to a string cannot fail.
        let _ =
            write!(html, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(figure), escape(label));
    }
    format!("<div class=\"tiles\">{html}</div>")
}
