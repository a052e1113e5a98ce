//! The reference as a page.

use std::fmt::Write as _;

use super::Section;
use super::model::{Form, Key, Shape, Table, tables};

/// The page's text below its title: every section, table and key.
#[must_use]
pub fn markdown(sections: &[Section]) -> String {
    let mut page = String::new();
    for section in sections {
        for (at, table) in tables(section).iter().enumerate() {
            write_table(&mut page, table, at == 0);
        }
    }
    page
}

fn write_table(page: &mut String, table: &Table, is_section: bool) {
    let level = if is_section { "##" } else { "###" };
    let path = &table.path;
    let header = match table.shape {
        Shape::Once => format!("[{path}]"),
        Shape::List => format!("[[{path}]]"),
        Shape::Map => format!("[{path}.NAME]"),
    };
    line(page, format_args!("{level} `{header}`\n"));
    paragraph(page, &table.doc);
    let often = match table.shape {
        Shape::Once => "",
        Shape::List => "May stand several times: a list of tables.",
        Shape::Map => "May stand several times, each with a name of its own.",
    };
    paragraph(page, often);
    if table.shape != Shape::Once
        && let Some(default) = table.default.as_ref().filter(|value| !is_empty(value))
    {
        line(page, format_args!("Default: `{default}`\n"));
    }
    for form in &table.forms {
        write_form(page, table, form);
    }
}

fn write_form(page: &mut String, table: &Table, form: &Form) {
    if let Some((key, word)) = &form.tag {
        let is_default = table
            .default
            .as_ref()
            .and_then(|default| default.get(key))
            .and_then(toml::Value::as_str)
            .is_some_and(|default| default == word);
        let note = if is_default { " (the default)" } else { "" };
        line(page, format_args!("With `{key} = \"{word}\"`{note}:\n"));
        paragraph(page, &form.doc);
    }
    for key in &form.keys {
        write_key(page, key);
    }
    if !form.keys.is_empty() {
        page.push('\n');
    }
}

fn write_key(page: &mut String, key: &Key) {
    let default = match &key.default {
        Some(default) => format!("default `{default}`"),
        None => "unset by default".to_owned(),
    };
    let Key { name, kind, .. } = key;
    line(page, format_args!("- **`{name}`** ({kind}, {default})"));
    for text in key.doc.lines() {
        line(page, format_args!("  {text}"));
    }
    for (word, meaning) in &key.words {
        let colon = if meaning.is_empty() { "" } else { ": " };
        let meaning = meaning.replace('\n', " ");
        line(page, format_args!("  - `{word}`{colon}{meaning}"));
    }
}

fn is_empty(value: &toml::Value) -> bool {
    match value {
        toml::Value::Array(elements) => elements.is_empty(),
        toml::Value::Table(table) => table.is_empty(),
        _ => false,
    }
}

fn paragraph(page: &mut String, text: &str) {
    if !text.is_empty() {
        page.push_str(text);
        page.push_str("\n\n");
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(page, "{text}").unwrap_or_default();
}
