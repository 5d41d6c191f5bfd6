//! What the documents say of the doctor is what it does.

use std::{collections::BTreeSet, fs, path::Path};

use sealift::operate::doctor::Id;
use serde_json::Value;

fn document(name: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(name),
    )
    .unwrap()
}

/// The document is what docs/doctor.schema.json describes.
#[track_caller]
pub(crate) fn validates(document: &Value) {
    let schema: Value = serde_json::from_str(&self::document("doctor.schema.json")).unwrap();
    check(&schema, document, "$");
}

/// As much of JSON Schema as that file uses. A word that is not known here fails: it would check
/// nothing.
#[track_caller]
fn check(schema: &Value, value: &Value, at: &str) {
    for (word, means) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "$id" | "title" | "description" => {}
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "null" => value.is_null(),
                    other => panic!("{at}: the type {other} is not known here"),
                };
                let fits = means
                    .as_array()
                    .map_or_else(|| is(means), |names| names.iter().any(is));
                assert!(fits, "{at} is no {means}: {value}");
            }
            "enum" => assert!(
                means.as_array().unwrap().contains(value),
                "{at}: {value} is none of {means}"
            ),
            "required" => {
                for name in means.as_array().unwrap() {
                    assert!(
                        value.get(name.as_str().unwrap()).is_some(),
                        "{at} has no {name}: {value}"
                    );
                }
            }
            "properties" => {
                for (name, schema) in means.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        check(schema, member, &format!("{at}.{name}"));
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(means, false);
                let known = schema["properties"].as_object().unwrap();
                for name in value.as_object().unwrap().keys() {
                    assert!(known.contains_key(name), "{at}: {name} is not known");
                }
            }
            "items" => {
                for (n, item) in value.as_array().unwrap().iter().enumerate() {
                    check(means, item, &format!("{at}[{n}]"));
                }
            }
            "minLength" => {
                let length = value.as_str().map_or(0, |text| text.chars().count());
                assert!(
                    !value.is_string() || length as u64 >= means.as_u64().unwrap(),
                    "{at}: {value} is too short"
                );
            }
            other => panic!("{at}: {other} is not known here"),
        }
    }
}

#[test]
fn every_check_is_in_the_document_and_in_the_schema_in_its_order() {
    let text = document("doctor.md");
    let table = text
        .split("## The checks")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let id = cells.next()?.strip_suffix('`')?;
        let told: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
        Some((id.to_owned(), told.len()))
    });
    let rows: Vec<_> = rows.collect();
    let listed: Vec<_> = rows.iter().map(|(id, _)| id.as_str()).collect();
    let known: Vec<_> = Id::ALL.iter().map(|id| id.as_str()).collect();
    assert_eq!(
        listed, known,
        "docs/doctor.md lists what the code knows, in its order"
    );
    assert!(
        rows.iter().all(|(_, cells)| *cells == 3),
        "each with what is checked, why it turns, and the cure: {rows:?}"
    );
    let schema: Value = serde_json::from_str(&document("doctor.schema.json")).unwrap();
    let ids = schema["properties"]["checks"]["items"]["properties"]["id"]["enum"]
        .as_array()
        .unwrap();
    assert_eq!(
        ids.iter()
            .map(|id| id.as_str().unwrap())
            .collect::<Vec<_>>(),
        known
    );
}

#[test]
fn the_run_book_lists_the_set_ups_that_the_tests_break() {
    let text = document("operations.md");
    let book = text
        .split("## Ten broken set-ups")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let listed: BTreeSet<_> = book
        .lines()
        .filter(|line| {
            line.starts_with("| ") && !line.starts_with("| symptom") && !line.starts_with("|---")
        })
        .map(|line| line.split('`').nth(1).unwrap().to_owned())
        .collect();
    let tested: BTreeSet<_> = super::ten::SET_UPS
        .iter()
        .map(|(id, _)| (*id).to_owned())
        .collect();
    assert_eq!(listed, tested);
    assert!(tested.len() >= 10);
}

#[test]
#[should_panic(expected = "is none of")]
fn the_schema_refuses_a_colour_that_is_none() {
    validates(&serde_json::json!({"status": "blue", "checks": []}));
}
