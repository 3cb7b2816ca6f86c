//! Tables of figures, as HTML and as Markdown.

use std::fmt::Write as _;

use super::escape;

/// A table whose first column names its rows.
pub struct Table {
    /// What the columns hold, the first one too.
    pub columns: Vec<String>,
    /// Each with as many entries as there are columns after the first.
    pub rows: Vec<(String, Vec<Entry>)>,
}

/// One entry.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The figure.
    pub text: String,
    /// What belongs to it, in lines below.
    pub notes: Vec<String>,
    /// Whether it is the best of its column.
    pub is_best: bool,
}

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

/// Most characters that stand in one line.
const LONG: usize = 40;

impl Table {
    /// As HTML.
    pub fn html(&self) -> String {
        let mut html = String::from("<div class=\"wide\"><table class=\"figures\">\n<tr>");
        // Writing to a string cannot fail.
        for column in &self.columns {
            let _ = write!(html, "<th>{}</th>", escape(column));
        }
        html.push_str("</tr>\n");
        for (name, entries) in &self.rows {
            let _ = write!(html, "<tr><td>{}</td>", escape(name));
            for Entry { text, notes, is_best } in entries {
                let class = if text.chars().count() > LONG { " class=\"long\"" } else { "" };
                let text = escape(text);
                let _ = match is_best {
                    true => write!(html, "<td{class}><b>{text}</b>"),
                    false => write!(html, "<td{class}>{text}"),
                };
                for note in notes {
                    let _ = write!(html, "<small>{}</small>", escape(note));
                }
                html.push_str("</td>");
            }
            html.push_str("</tr>\n");
        }
        html + "</table></div>\n"
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = String>| {
            cells.fold(String::from("|"), |line, cell| line + " " + &cell + " |") + "\n"
        };
        let mut text = line(&mut self.columns.iter().map(|column| plain(column)));
        text += &line(&mut self.columns.iter().map(|_| "---".to_owned()));
        let entry = |Entry { text, notes, is_best }: &Entry| {
            let text = plain(text);
            let text = if *is_best { format!("**{text}**") } else { text };
            notes.iter().fold(text, |text, note| text + "<br>" + &plain(note))
        };
        for (name, entries) in &self.rows {
            text += &line(&mut [plain(name)].into_iter().chain(entries.iter().map(entry)));
        }
        text
    }
}

/// `text` as Markdown that says just this, in one line.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => plain.extend(['\\', c]),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_a_cell_and_the_best_is_bold() {
        let best = Entry { text: "1 %".into(), notes: vec!["p < 0.1".into()], is_best: true };
        let table = Table {
            columns: vec!["".into(), "a|b".into(), "c".into()],
            rows: vec![("<x>\n".into(), vec![best, "2".to_owned().into()])],
        };
        assert_eq!(
            table.markdown(),
            "|  | a\\|b | c |\n| --- | --- | --- |\n| &lt;x&gt;  | **1 %**<br>p &lt; 0.1 | 2 |\n"
        );
        let html = table.html();
        assert!(html.contains("<td><b>1 %</b><small>p &lt; 0.1</small></td><td>2</td>"), "{html}");
        assert!(html.contains("<td>&lt;x&gt;"), "{html}");
    }
}
