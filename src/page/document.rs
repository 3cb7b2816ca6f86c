//! A report of text, tables and pictures, as one HTML file and as Markdown with its pictures beside it.

use super::svg::Svg;
use super::table::{plain, Table};
use super::{escape, frame};

/// What a report tells, from the top down.
pub struct Document {
    /// The heading of it all.
    pub title: String,
    /// A line below.
    pub subtitle: String,
    /// The rest.
    pub blocks: Vec<Block>,
}

/// A part of it.
pub enum Block {
    /// Begins a section.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// Points, one line each.
    List(Vec<String>),
    /// Figures.
    Table(Table),
    /// A picture, and the name of its file.
    Picture(String, Svg),
}

impl Document {
    /// One file that needs nothing from elsewhere.
    pub fn html(&self) -> String {
        let block = |block: &Block| match block {
            Block::Heading(text) => format!("<h2>{}</h2>\n", escape(text)),
            Block::Text(text) => format!("<p>{}</p>\n", escape(text)),
            Block::List(points) => {
                let points: String =
                    points.iter().map(|point| format!("<li>{}</li>\n", escape(point))).collect();
                format!("<ul>\n{points}</ul>\n")
            }
            Block::Table(table) => table.html(),
            Block::Picture(_, svg) => svg.inline(),
        };
        frame(&self.title, &self.subtitle, &self.blocks.iter().map(block).collect::<String>())
    }

    /// Markdown that shows the files of [`Self::pictures`].
    pub fn markdown(&self) -> String {
        let block = |block: &Block| match block {
            Block::Heading(text) => format!("\n## {}\n", plain(text)),
            Block::Text(text) => format!("\n{}\n", plain(text)),
            Block::List(points) => {
                points.iter().fold("\n".to_owned(), |list, point| list + "- " + &plain(point) + "\n")
            }
            Block::Table(table) => format!("\n{}", table.markdown()),
            Block::Picture(file, svg) => format!("\n![{}]({file})\n", plain(svg.label())),
        };
        let blocks: String = self.blocks.iter().map(block).collect();
        format!("# {}\n\n{}\n{blocks}", plain(&self.title), plain(&self.subtitle))
    }

    /// The pictures, with the names of their files.
    pub fn pictures(&self) -> impl Iterator<Item = (&str, &Svg)> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Picture(file, svg) => Some((file.as_str(), svg)),
            _ => None,
        })
    }
}
