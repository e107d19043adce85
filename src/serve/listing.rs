//! Lists a folder as a small HTML page, for people who look around in a mirror.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use axum::response::{Html, IntoResponse as _, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what stands for itself in a path's segment.
const SEGMENT: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

struct Row {
    name: String,
    is_folder: bool,
    length: u64,
}

/// The page for a folder. Temporary files are left out, and names that are no text can't be asked for.
pub(super) async fn of(folder: &Path, is_root: bool) -> io::Result<Response> {
    let mut entries = tokio::fs::read_dir(folder).await?;
    let mut rows = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata().await)
        else {
            continue;
        };
        if !name.starts_with('.') {
            rows.push(Row {
                name,
                is_folder: metadata.is_dir(),
                length: metadata.len(),
            });
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Html(page(&rows, is_root)).into_response())
}

fn page(rows: &[Row], is_root: bool) -> String {
    let mut page =
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>mirror</title>\n<pre>\n".to_owned();
    if !is_root {
        page += "<a href=\"../\">../</a>\n";
    }
    for row in rows {
        let slash = if row.is_folder { "/" } else { "" };
        let link = utf8_percent_encode(&row.name, &SEGMENT);
        let text = escape(&row.name);
        let length = if row.is_folder {
            String::new()
        } else {
            row.length.to_string()
        };
        writeln!(
            page,
            "<a href=\"{link}{slash}\">{text}{slash}</a>  {length}"
        )
        .expect("a string takes all text");
    }
    page + "</pre>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let row = Row {
            name: "<b>\"&amp;/".to_owned(),
            is_folder: false,
            length: 5,
        };
        let page = page(&[row], true);
        let expected = "<a href=\"%3Cb%3E%22%26amp%3B%2F\">&lt;b&gt;&quot;&amp;amp;/</a>  5\n";
        assert!(page.contains(expected), "{page}");
    }
}
