//! Models that were split into several files: recognised by what every part says of itself.

use super::GgufFile;
use crate::error::{Error, Result};

/// llama.cpp's keys of a part: how many there are, and which one this is, from 0.
const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";

impl GgufFile {
    /// Nothing, if this file is all there is of its model.
    ///
    /// # Errors
    /// It is one of several parts; the hint is the command that joins them.
    pub fn check_is_whole(&self) -> Result<()> {
        let count = self.u16(COUNT)?.unwrap_or(1);
        if count <= 1 {
            return Ok(());
        }
        let number = self.u16(NUMBER)?;
        let which = number.map_or("one".into(), |number| format!("number {}", u32::from(number) + 1));
        Err(Error::expected("a complete model", format!("one part of a split model ({which} of {count})"))
            .file(self.path())
            .field(COUNT)
            .hint(self.how_to_join(count, number)))
    }

    fn how_to_join(&self, count: u16, number: Option<u16>) -> String {
        let renamed = format!(
            "llama-gguf-split --merge joins the parts if they are named NAME-00001-of-{count:05}.gguf and so on"
        );
        let name = self.path().file_name().and_then(|name| name.to_str());
        let ending = number.map(|number| format!("-{:05}-of-{count:05}.gguf", u32::from(number) + 1));
        let Some(stem) = name.zip(ending).and_then(|(name, ending)| name.strip_suffix(&ending)) else {
            return renamed;
        };
        let beside = |name: String| self.path().with_file_name(name);
        let part = |number: u16| beside(format!("{stem}-{number:05}-of-{count:05}.gguf"));
        let command = format!(
            "llama-gguf-split --merge {} {}",
            part(1).display(),
            beside(format!("{stem}.gguf")).display()
        );
        match (1..=count).map(part).find(|path| !path.exists()) {
            Some(missing) => format!("{} is missing; with all parts there: {command}", missing.display()),
            None => format!("join the parts: {command}"),
        }
    }
}
