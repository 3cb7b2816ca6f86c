//! Rows of data: JSON Lines, plain or compressed with gzip, each row with its `FILE:LINE`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// No row of text is this long; a file that is one line is not JSON Lines.
const MAX_LINE_BYTES: u64 = 64 << 20;
const HINT: &str = "the file holds one JSON object per line";

/// One row.
pub struct Row {
    /// `FILE:LINE`.
    pub place: PathBuf,
    /// The line, from 1.
    pub number: usize,
    /// What it holds.
    pub fields: Map<String, Value>,
}

/// Reads all rows of `path`; empty lines are skipped. Whether it is compressed is seen from its first bytes.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let cannot_read = |source| Error::io("cannot read", path, source);
    let mut file = BufReader::new(File::open(path).map_err(cannot_read)?);
    let is_gzip = file.fill_buf().map_err(cannot_read)?.starts_with(&[0x1f, 0x8b]);
    let mut lines: Box<dyn BufRead> =
        if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
    let mut rows = Vec::new();
    let mut line = Vec::new();
    for number in 1_usize.. {
        line.clear();
        let place = PathBuf::from(format!("{}:{number}", path.display()));
        let operation = if is_gzip { "cannot decompress" } else { "cannot read" };
        let failed = |source| Error::io(operation, &place, source);
        let n_bytes = lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        if n_bytes == 0 {
            break;
        }
        if n_bytes as u64 == MAX_LINE_BYTES {
            return Err(Error::invalid(format!("a line of more than {MAX_LINE_BYTES} bytes"))
                .file(place)
                .hint(HINT));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |problem: String| Error::invalid(problem).file(&place).hint(HINT);
        match serde_json::from_slice(&line) {
            Ok(Value::Object(fields)) => rows.push(Row { place, number, fields }),
            Ok(_) => return Err(wrong(String::from("expected a JSON object, found another value"))),
            Err(error) => {
                // serde_json counts lines within the one line it is given.
                let problem = error.to_string();
                let problem = problem.split(" at line").next().unwrap_or(&problem);
                return Err(wrong(format!("not JSON at column {}: {problem}", error.column())));
            }
        }
    }
    Ok(rows)
}
