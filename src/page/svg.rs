//! A picture, for a page or as a file of its own.

use super::escape;

/// What all pictures' texts and lines look like; pages hold it once, files each.
pub(super) const STYLE: &str = "\
svg text { font-family: system-ui, sans-serif } .title { font-size: 13px; font-weight: 600; fill: #1c2330 }
.tick { font-size: 11px; fill: #5b6577 } .label { font-size: 12px; fill: #1c2330 } .grid { stroke: #e8ebf1; stroke-width: 1 }";

/// A drawing with its size.
#[derive(Clone, Debug)]
pub struct Svg {
    pub(super) width: f64,
    pub(super) height: f64,
    /// What it shows, for who cannot see it.
    pub(super) label: String,
    /// The elements inside.
    pub(super) body: String,
}

impl Svg {
    /// What it shows.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// For a page, at most in its own size.
    pub fn inline(&self) -> String {
        let Self { width, height, label, body } = self;
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width: {width:.0}px\" role=\"img\" \
             aria-label=\"{}\">\n{body}</svg>\n",
            escape(label)
        )
    }

    /// A file of its own, on white.
    pub fn file(&self) -> String {
        let Self { width, height, label, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">\n<style>\n{STYLE}\n</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
            escape(label)
        )
    }
}

/// About how wide `text` is in letters of `size`; nothing depends on it being exact.
pub(super) fn width(text: &str, size: f64) -> f64 {
    0.6 * size * text.chars().count() as f64
}

/// `text`, cut where it would be wider than `room`.
pub(super) fn shorten(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let n = ((room / (0.6 * size)) as usize).saturating_sub(1);
    text.chars().take(n).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stands_alone_and_a_label_cannot_end_it() {
        let svg = Svg { width: 10.0, height: 5.0, label: "a\"><b>".into(), body: "<g/>".into() };
        for text in [svg.file(), svg.inline()] {
            assert!(text.contains("a&quot;&gt;&lt;b&gt;") && text.contains("<g/>"), "{text}");
        }
        assert!(svg.file().starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 10 5\""));
    }

    #[test]
    fn a_long_label_is_cut() {
        assert_eq!(shorten("short", 10.0, 30.0), "short");
        assert_eq!(shorten("rather long", 10.0, 30.0), "rath…");
    }
}
