//! Rows of data: JSON Lines, plain or compressed with gzip, each row with its `FILE:LINE`. Other files are told apart by
//! how they begin, and refused with the command that makes JSON Lines of them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// No row of text is this long; a file that is one line is not JSON Lines.
const MAX_LINE_BYTES: u64 = 64 << 20;
const HINT: &str = "the file holds one JSON object per line";
/// Some editors begin a file with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match row(&line, n_bytes as u64 == MAX_LINE_BYTES) {
            Ok(fields) => rows.push(Row { place, number, fields }),
            Err(error) => {
                let other = if rows.is_empty() { other_format(&line, path) } else { None };
                return Err(other.unwrap_or_else(|| error.file(place).hint(HINT)));
            }
        }
    }
    Ok(rows)
}

/// The fields of a line.
fn row(line: &[u8], is_cut: bool) -> Result<Map<String, Value>> {
    if is_cut {
        return Err(Error::invalid(format!("a line of more than {MAX_LINE_BYTES} bytes")));
    }
    match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::invalid("expected a JSON object, found another value")),
        Err(error) => {
            // serde_json counts lines within the one line it is given.
            let problem = error.to_string();
            let problem = problem.split(" at line").next().unwrap_or(&problem);
            Err(Error::invalid(format!("not JSON at column {}: {problem}", error.column())))
        }
    }
}

/// Why `path`, whose first line is no row, is a file of another format, if it is one.
fn other_format(line: &[u8], path: &Path) -> Option<Error> {
    let output = path.with_extension("jsonl");
    // A shell empties what it writes to before it reads.
    let output = if output == path { path.with_extension("converted.jsonl") } else { output };
    let (file, output) = (in_shell(path), in_shell(&output));
    let pandas = |read: &str| {
        format!(
            "convert it with: python3 -c \"import sys, pandas; pandas.{read}(sys.argv[1]).to_json(sys.argv[2], \
             orient='records', lines=True)\" {file} {output}"
        )
    };
    let jq = |filter: &str| format!("convert it with: jq -c {filter} {file} > {output}");
    let utf16 = || format!("convert it with: iconv -f UTF-16 -t UTF-8 {file} > {output}");
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    let (name, hint) = match line {
        [b'P', b'A', b'R', b'1', ..] => ("a Parquet file", pandas("read_parquet")),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => ("an Arrow file", pandas("read_feather")),
        [0xff, 0xff, 0xff, 0xff, ..] => {
            ("an Arrow stream", String::from("convert it with to_json of the Python library datasets"))
        }
        [b'P', b'K', 3, 4, ..] => ("a zip archive", format!("take its files out with: unzip {file}")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            ("a file compressed with zstd", format!("unpack it with: zstd -d {file}"))
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            ("a file compressed with xz", format!("unpack it with: xz -dk {file}"))
        }
        [b'B', b'Z', b'h', ..] => {
            ("a file compressed with bzip2", format!("unpack it with: bzip2 -dk {file}"))
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("text in UTF-16", utf16()),
        _ if text.starts_with('[') => ("a JSON array", jq("'.[]'")),
        _ if text.starts_with('{') && text.ends_with(['{', '[', ',']) => {
            ("one JSON value over several lines", jq("."))
        }
        _ if text.starts_with('{') => return None,
        _ if text.starts_with("version https://git-lfs") => {
            ("a pointer of git-lfs", String::from("fetch the file itself with: git lfs pull"))
        }
        _ if text.starts_with('<') => ("HTML or XML", String::from("download the file itself, not its page")),
        _ if text.contains('\t') => ("a table with tabs", pandas("read_table")),
        _ if text.contains(',') => ("a table with commas (CSV)", pandas("read_csv")),
        _ => return None,
    };
    Some(Error::expected("JSON Lines", name).file(path).field("data").hint(hint))
}

/// A path as a word of a command.
fn in_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
