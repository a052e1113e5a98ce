//! A config file to start from: every key, commented out, with its default.

use std::fmt::Write as _;

use super::Section;
use super::model::{Form, Key, Shape, Table, tables};

/// The file's text. As it is, it sets nothing; without the `#` before a key, it sets the default.
#[must_use]
pub fn sample(sections: &[Section]) -> String {
    let mut file = String::new();
    for section in sections {
        for table in tables(section) {
            write_table(&mut file, &table);
        }
    }
    file
}

fn write_table(file: &mut String, table: &Table) {
    let path = &table.path;
    comment(file, &table.doc);
    match (table.shape, table.forms.as_slice()) {
        // A table with one form may stand empty.
        (Shape::Once, [form]) if form.tag.is_none() && table.default.is_some() => {
            line(file, format_args!("[{path}]\n"));
            form.keys.iter().for_each(|key| write_key(file, key));
        }
        (shape, forms) => {
            let header = match shape {
                Shape::Once => format!("[{path}]"),
                Shape::List => format!("[[{path}]]"),
                Shape::Map => format!("[{path}.NAME]"),
            };
            for form in forms {
                line(file, format_args!("#{header}"));
                write_form(file, form);
            }
        }
    }
}

fn write_form(file: &mut String, form: &Form) {
    if let Some((key, word)) = &form.tag {
        line(file, format_args!("#{key} = \"{word}\""));
        comment(file, &form.doc);
    }
    form.keys.iter().for_each(|key| write_key(file, key));
    if form.keys.is_empty() {
        file.push('\n');
    }
}

fn write_key(file: &mut String, key: &Key) {
    comment(file, &key.doc);
    for (word, meaning) in &key.words {
        let colon = if meaning.is_empty() { "" } else { ": " };
        let meaning = meaning.replace('\n', " ");
        line(file, format_args!("#   \"{word}\"{colon}{meaning}"));
    }
    let name = &key.name;
    match &key.default {
        Some(default) => line(file, format_args!("#{name} = {default}\n")),
        None => line(file, format_args!("# {name} is unset ({}).\n", key.kind)),
    }
}

fn comment(file: &mut String, text: &str) {
    for text in text.lines() {
        line(file, format_args!("# {text}"));
    }
}

fn line(file: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(file, "{text}").unwrap_or_default();
}
