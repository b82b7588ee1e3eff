//! The chart, rendered: Go's templates by a crate that has them, and of Helm's functions those that
//! the chart uses. It is not Helm; what is used is little, so that it gives what Helm does.

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use gotmpl::{Template, TemplateError, Value};
use sha2::{Digest as _, Sha256};

use crate::{documents, files, root, text};

const CHART: &str = "deploy/helm/execblock";

/// What `helm template execblock deploy/helm/execblock --namespace execblock` gives with these
/// values over the chart's own.
pub(crate) fn render(values: &serde_json::Value) -> Result<Vec<serde_json::Value>> {
    let mut all = documents(&text(&format!("{CHART}/values.yaml"))?)?.remove(0);
    merge(&mut all, values);
    let chart = documents(&text(&format!("{CHART}/Chart.yaml"))?)?.remove(0);
    let data = serde_json::json!({
        "Values": all,
        "Release": {"Name": "execblock", "Namespace": "execblock", "Service": "Helm"},
        "Chart": {
            "Name": chart["name"],
            "Version": chart["version"],
            "AppVersion": chart["appVersion"],
        },
    });
    let data = value(&data);
    let helpers = text(&format!("{CHART}/templates/_helpers.tpl"))?;
    let mut documents_of_all = Vec::new();
    for file in files(&format!("{CHART}/templates"))? {
        // A method of an object is no field of a map.
        let source = text(&file)?.replace(".Files.Get ", "filesGet ");
        let rendered = execute(&helpers, &source, &data).with_context(|| file.clone())?;
        documents_of_all.extend(documents(&rendered).with_context(|| rendered)?);
    }
    Ok(documents_of_all)
}

fn merge(below: &mut serde_json::Value, above: &serde_json::Value) {
    match (below, above) {
        (serde_json::Value::Object(below), serde_json::Value::Object(above)) => {
            for (key, value) in above {
                merge(below.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

fn execute(helpers: &str, source: &str, data: &Value) -> Result<String> {
    // `include` is a function that executes a template of the same set.
    let set = Arc::new(OnceLock::<Template>::new());
    let template = functions(Template::new("chart"), &set).parse(helpers)?;
    let named = functions(Template::new("named"), &set).parse(helpers)?;
    assert!(set.set(named).is_ok());
    Ok(template.parse(source)?.execute_to_string(data)?)
}

fn functions(template: Template, set: &Arc<OnceLock<Template>>) -> Template {
    let set = Arc::clone(set);
    template
        .func("include", move |arguments| {
            let (name, data) = (string(arguments, 0)?, argument(arguments, 1)?);
            let set = set.get().ok_or_else(|| error("not ready"))?;
            set.execute_template_to_string(&name, data).map(said)
        })
        .func("nindent", |arguments| {
            let columns = argument(arguments, 0)?.as_int();
            let columns = columns.and_then(|columns| usize::try_from(columns).ok());
            let space = " ".repeat(columns.ok_or_else(|| error("a number"))?);
            let text = string(arguments, 1)?.replace('\n', &format!("\n{space}"));
            Ok(said(format!("\n{space}{text}")))
        })
        .func("quote", |arguments| {
            Ok(said(format!("{:?}", string(arguments, 0)?)))
        })
        .func("default", |arguments| {
            let (absent, given) = (argument(arguments, 0)?, argument(arguments, 1)?);
            let chosen = if gotmpl::is_true(given) {
                given
            } else {
                absent
            };
            Ok(chosen.clone())
        })
        .func("sha256sum", |arguments| {
            let digest = Sha256::digest(string(arguments, 0)?);
            Ok(said(format!("{digest:x}")))
        })
        .func("toYaml", |arguments| {
            // JSON is YAML, on one line.
            let json = json(argument(arguments, 0)?)?;
            let yaml = serde_saphyr::to_string(&json).map_err(|problem| error(&problem))?;
            Ok(said(yaml.trim_end().to_owned()))
        })
        .func("filesGet", |arguments| {
            let path = root().join(CHART).join(string(arguments, 0)?);
            std::fs::read_to_string(path)
                .map(said)
                .map_err(|problem| error(&problem))
        })
}

fn error(problem: &(impl ToString + ?Sized)) -> TemplateError {
    TemplateError::Exec(problem.to_string())
}

fn argument(arguments: &[Value], at: usize) -> Result<&Value, TemplateError> {
    arguments
        .get(at)
        .ok_or_else(|| error("an argument is missing"))
}

fn string(arguments: &[Value], at: usize) -> Result<String, TemplateError> {
    Ok(argument(arguments, at)?.to_string())
}

fn said(text: String) -> Value {
    Value::String(text.into())
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => number.as_i64().map_or(
            Value::Float(number.as_f64().unwrap_or_default()),
            Value::Int,
        ),
        serde_json::Value::String(text) => said(text.clone()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(value).collect()),
        serde_json::Value::Object(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|(key, one)| (key.as_str().into(), value(one)));
            Value::Map(Arc::new(entries.collect()))
        }
    }
}

fn json(value: &Value) -> Result<serde_json::Value, TemplateError> {
    Ok(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => text.to_string().into(),
        Value::List(items) => items.iter().map(json).collect::<Result<_, _>>()?,
        Value::Map(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|(key, one)| Ok((key.to_string(), json(one)?)));
            entries.collect::<Result<_, TemplateError>>()?
        }
        other => return Err(error(&format!("{other:?} in YAML"))),
    })
}
