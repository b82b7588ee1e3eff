//! The admission policies, evaluated: on what was and what is to be.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use cel::{Context, Env, Program, Value, extensions, extractors::This};
use serde_json::json;

use crate::{documents, text};

/// A ValidatingAdmissionPolicy's expressions, compiled.
struct Policy {
    env: Arc<Env>,
    conditions: Vec<Program>,
    variables: Vec<(String, Program)>,
    validations: Vec<(Program, String)>,
}

impl Policy {
    fn read(file: &str) -> Result<Self> {
        let documents = documents(&text(file)?)?;
        let policy = documents
            .iter()
            .find(|one| one["kind"] == "ValidatingAdmissionPolicy");
        let spec = &policy.context("a policy")?["spec"];
        ensure!(spec["failurePolicy"] == "Fail", "it fails open");
        let mut env = Env::stdlib();
        env.add_extension(extensions::strings)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let env = Arc::new(env);
        let named = |list: &str, key: &str| -> Result<Vec<(Program, String)>> {
            let items = spec[list].as_array().into_iter().flatten();
            items
                .map(|item| {
                    let source = item["expression"].as_str().context("an expression")?;
                    let program = env.compile(source);
                    let program = program.map_err(|error| anyhow::anyhow!("{source}: {error}"))?;
                    Ok((program, item[key].as_str().unwrap_or_default().to_owned()))
                })
                .collect()
        };
        let variables = named("variables", "name")?.into_iter();
        let conditions = named("matchConditions", "name")?.into_iter();
        Ok(Self {
            conditions: conditions.map(|(program, _)| program).collect(),
            variables: variables.map(|(program, name)| (name, program)).collect(),
            validations: named("validations", "message")?,
            env,
        })
    }

    /// The messages of those that do not hold.
    fn refuses(
        &self,
        known: &[(&str, &serde_json::Value)],
        may_loosen: bool,
    ) -> Result<Vec<String>> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        functions(&mut context, may_loosen)?;
        for (name, value) in known {
            context.add_variable_from_value(*name, cel::to_value(value)?);
        }
        context.add_variable_from_value("authorizer", "authorizer");
        context.add_variable_from_value("request", cel::to_value(json!({"namespace": "shop"}))?);
        for condition in &self.conditions {
            if is_true(condition, &context)? != Some(true) {
                return Ok(Vec::new());
            }
        }
        let mut variables = HashMap::new();
        for (name, program) in &self.variables {
            let value = program.execute(&context)?;
            variables.insert(name.clone(), value);
            context.add_variable_from_value("variables", Value::from(variables.clone()));
        }
        let mut refused = Vec::new();
        for (program, message) in &self.validations {
            if !is_true(program, &context)?.with_context(|| message.clone())? {
                let key = message.split(':').next().unwrap_or_default();
                refused.push(key.to_owned());
            }
        }
        Ok(refused)
    }
}

fn is_true(program: &Program, context: &Context<'_, '_>) -> Result<Option<bool>> {
    Ok(match program.execute(context)? {
        Value::Bool(value) => Some(value),
        _ => None,
    })
}

/// What the API server has beside the language: of its library of regular expressions and of its
/// authorizer what is used.
fn functions(context: &mut Context<'_, '_>, may_loosen: bool) -> Result<()> {
    let failed = |error: cel::DeclarationError| anyhow::anyhow!("{error:?}");
    let find_all = |This(text): This<Arc<String>>, pattern: Arc<String>| {
        let pattern = regex::Regex::new(&pattern);
        let pattern =
            pattern.map_err(|error| cel::ExecutionError::function_error("findAll", error));
        pattern.map(|pattern| {
            let found = pattern.find_iter(&text).map(|one| one.as_str().to_owned());
            Value::from(found.collect::<Vec<String>>())
        })
    };
    context.add_function("findAll", find_all).map_err(failed)?;
    for name in ["group", "resource", "namespace", "check"] {
        let same = |This(this): This<Value>, _of: Arc<String>| this;
        context.add_function(name, same).map_err(failed)?;
    }
    let allowed = move |This(_this): This<Value>| may_loosen;
    context.add_function("allowed", allowed).map_err(failed)
}

/// The API server leaves out what is nothing.
fn pod(annotations: &serde_json::Value) -> serde_json::Value {
    let mut pod = json!({"kind": "Pod", "metadata": {}, "spec": {"containers": []}});
    if !annotations.is_null() {
        pod["metadata"]["annotations"] = annotations.clone();
    }
    pod
}

/// What was, what is to be, and what of it is refused.
type Change<'a> = (serde_json::Value, serde_json::Value, &'a [&'a str]);

fn changes() -> Vec<Change<'static>> {
    const DENY: &str = "execblock/deny";
    const ALLOW: &str = "execblock/allow";
    const DRIFT: &str = "execblock/drift";
    const MODE: &str = "execblock/mode";
    const PROFILE: &str = "execblock/profile";
    const SCOPED: &str = "execblock/deny.container.app";
    vec![
        // Dropped.
        (json!({DENY: "a"}), json!({}), &[DENY]),
        (json!({ALLOW: "a"}), json!({}), &[ALLOW]),
        (json!({DRIFT: "deny"}), json!({}), &[DRIFT]),
        (json!({DRIFT: "audit"}), json!({}), &[DRIFT]),
        (json!({PROFILE: "a"}), json!({}), &[PROFILE]),
        (json!({MODE: "audit", DENY: "a"}), json!({DENY: "a"}), &[]),
        (json!({DENY: "a"}), json!(null), &[DENY]),
        // Loosened.
        (json!({DENY: "a, b"}), json!({DENY: "b"}), &[DENY]),
        (json!({DENY: "ab"}), json!({DENY: "a"}), &[DENY]),
        (json!({ALLOW: "a"}), json!({ALLOW: "a b"}), &[ALLOW]),
        (json!({ALLOW: "a"}), json!({ALLOW: ""}), &[ALLOW]),
        (json!({DRIFT: "deny"}), json!({DRIFT: "audit"}), &[DRIFT]),
        (json!({DRIFT: "audit"}), json!({DRIFT: "off"}), &[DRIFT]),
        (
            json!({DENY: "a"}),
            json!({DENY: "a", MODE: "audit"}),
            &[MODE],
        ),
        (json!({PROFILE: "a,b"}), json!({PROFILE: "a"}), &[PROFILE]),
        // For one container.
        (json!({DENY: "a"}), json!({DENY: "a", SCOPED: "b"}), &[DENY]),
        (json!({SCOPED: "a"}), json!({}), &[DENY]),
        (json!({SCOPED: "a", DENY: "b"}), json!({DENY: "b"}), &[DENY]),
        (json!({DENY: "a"}), json!({SCOPED: "a"}), &[DENY]),
        (
            json!({DENY: "a"}),
            json!({DENY: "a", "execblock/mode.container.app": "audit"}),
            &[MODE],
        ),
        // Round about it.
        (
            json!({}),
            json!({"execblock.dev/tolerate-missing": "true"}),
            &["execblock.dev/tolerate-missing"],
        ),
        (
            json!({"required-plugins.noderesource.dev": "[\"execblock\"]"}),
            json!({"required-plugins.noderesource.dev": "[]"}),
            &["required-plugins.noderesource.dev"],
        ),
        // Tightened, or only written in another way.
        (
            json!({}),
            json!({DENY: "a", ALLOW: "b", DRIFT: "deny"}),
            &[],
        ),
        (json!(null), json!({DENY: "a"}), &[]),
        (json!({}), json!({DENY: "a", MODE: "audit"}), &[]),
        (json!({DENY: "a"}), json!({DENY: "b,\n  a"}), &[]),
        (json!({DENY: "a"}), json!({DENY: "a", SCOPED: "a c"}), &[]),
        (json!({SCOPED: "a", DENY: "b"}), json!({DENY: "b, a"}), &[]),
        (json!({ALLOW: "a, b"}), json!({ALLOW: "b"}), &[]),
        (json!({DRIFT: "audit"}), json!({DRIFT: "deny"}), &[]),
        (
            json!({DENY: "a", MODE: "audit"}),
            json!({DENY: "a", MODE: "enforce"}),
            &[],
        ),
        (json!({PROFILE: "a"}), json!({PROFILE: "a,b"}), &[]),
        // Another's.
        (json!({"team": "x"}), json!({}), &[]),
    ]
}

#[test]
fn an_update_drops_and_loosens_nothing() -> Result<()> {
    let policy = Policy::read("deploy/policies/keep.yaml")?;
    for (before, now, expected) in changes() {
        let shown = format!("{before} to {now}");
        let (before, now) = (pod(&before), pod(&now));
        let known = [("oldObject", &before), ("object", &now)];
        let refused = policy
            .refuses(&known, false)
            .with_context(|| shown.clone())?;
        assert_eq!(refused, expected, "{shown}");
        assert!(policy.refuses(&known, true)?.is_empty(), "{shown}");
    }
    Ok(())
}

#[test]
fn of_a_workload_its_template_is_looked_at() -> Result<()> {
    let policy = Policy::read("deploy/policies/keep.yaml")?;
    let deployment = |metadata: serde_json::Value| {
        json!({
            "kind": "Deployment",
            "metadata": {"annotations": {"execblock/deny": "a"}},
            "spec": {"template": {"metadata": metadata}},
        })
    };
    let cron = |metadata| json!({"metadata": {}, "spec": {"jobTemplate": {"spec": deployment(metadata)["spec"]}}});
    let with = json!({"annotations": {"execblock/deny": "a"}});
    for workload in [&deployment as &dyn Fn(_) -> _, &cron] {
        for (now, expected) in [(json!({}), 1), (with.clone(), 0)] {
            let (before, now) = (workload(with.clone()), workload(now));
            let refused = policy.refuses(&[("oldObject", &before), ("object", &now)], false)?;
            assert_eq!(refused.len(), expected, "{before} to {now}");
        }
    }
    Ok(())
}

#[test]
fn a_floor_is_what_each_pod_must_say() -> Result<()> {
    let file = "deploy/policies/floor.yaml";
    let policy = Policy::read(file)?;
    let documents = documents(&text(file)?)?;
    let map = documents.iter().find(|one| one["kind"] == "ConfigMap");
    let given = map.context("the parameters")?;
    assert_eq!(given["data"]["deny"], "@shells, @package-managers");
    let full = json!({"data": {
        "deny": "a b", "allow": "c, d", "drift": "audit", "mode": "enforce", "profile": "p",
    }});
    let good = json!({
        "execblock/deny": "b,a,x",
        "execblock/allow": "c",
        "execblock/drift": "deny",
        "execblock/profile": "p q",
    });
    let changed = |key: &str, value: &str| {
        let mut other = good.clone();
        other[key] = value.into();
        other
    };
    for (params, annotations, expected) in [
        (&full, good.clone(), 0),
        (&full, json!(null), 4),
        (&full, changed("execblock/deny", "a"), 1),
        (&full, changed("execblock/deny.container.app", "a"), 1),
        (&full, changed("execblock/deny.container.app", "a b"), 0),
        (&full, changed("execblock/allow", "c e"), 1),
        (&full, changed("execblock/drift", "off"), 1),
        (&full, changed("execblock/mode", "audit"), 1),
        (&full, changed("execblock/profile", "q"), 1),
        (&full, changed("execblock.dev/tolerate-missing", "true"), 1),
        (
            given,
            json!({"execblock/deny": "@package-managers @shells"}),
            0,
        ),
        (given, json!({}), 1),
        (&json!({}), json!({}), 0),
    ] {
        let object = pod(&annotations);
        let known = [("object", &object), ("params", params)];
        let refused = policy.refuses(&known, false)?;
        assert_eq!(refused.len(), expected, "{annotations}: {refused:?}");
    }
    Ok(())
}

/// Kyverno evaluates the same expressions.
#[test]
fn kyvernos_policy_is_the_same() -> Result<()> {
    let ours = documents(&text("deploy/policies/keep.yaml")?)?;
    let kyverno = documents(&text("deploy/policies/kyverno.yaml")?)?;
    let cel = &kyverno[0]["spec"]["rules"][0]["validate"]["cel"];
    assert_eq!(cel["variables"], ours[0]["spec"]["variables"]);
    assert_eq!(cel["expressions"], ours[0]["spec"]["validations"]);
    Ok(())
}
