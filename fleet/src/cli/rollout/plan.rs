//! A rollout's stages as people write them: `canary=1,bake=1h` or `rest=100%,quorum=90,deadline=3d`.

use serde_json::{Value, json};

use crate::cli::duration;

pub(super) const HELP: &str = "\
Stages:
  --stage NAME=SIZE[,quorum=PERCENT][,bake=SPAN][,deadline=SPAN]
  SIZE is a number of devices or a percentage of all; spans are world time: 30s, 10m, 6h, 2d.
  A stage's gate is asked when PERCENT of its devices have run for the bake.

Examples:
  muster rollout create --model beds --bundle bundles/beds/2.json --reason 'winter model' \\
      --stage canary=1,bake=1d --stage half=50%,bake=12h --stage all=100%
  muster rollout create --model beds --bundle bundles/beds/2.json --reason x --plan rollout.toml --dry-run

Without --yes it says what would happen and asks; where nobody can be asked it ends with 2 and the command to go on.";

const BAKE_S: u64 = 3600;
const DEADLINE_S: u64 = 86_400;

/// Reads one stage; for clap.
pub(super) fn stage(text: &str) -> Result<Value, String> {
    let mut parts = text.split(',');
    let (name, size) =
        parts.next().and_then(|part| part.split_once('=')).ok_or("write NAME=SIZE, for example canary=1")?;
    if name.is_empty() {
        return Err("the stage has no name".to_owned());
    }
    let mut stage = json!({
        "name": name, "size": self::size(size)?, "quorum_percent": 100, "bake_s": BAKE_S, "deadline_s": DEADLINE_S,
    });
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("'{part}' is not KEY=VALUE"))?;
        match key {
            "quorum" => stage["quorum_percent"] = json!(percent(value)?),
            "bake" => stage["bake_s"] = json!(duration::parse(value)?.as_secs()),
            "deadline" => stage["deadline_s"] = json!(duration::parse(value)?.as_secs()),
            other => return Err(format!("'{other}' is not known; use quorum, bake or deadline")),
        }
    }
    Ok(stage)
}

/// One box first, then everyone.
pub(super) fn default_stages() -> Value {
    let stage = |name: &str, size: Value| json!({ "name": name, "size": size, "quorum_percent": 100, "bake_s": BAKE_S, "deadline_s": DEADLINE_S });
    json!([stage("canary", json!({ "count": 1 })), stage("everyone", json!({ "percent": 100.0 }))])
}

fn size(text: &str) -> Result<Value, String> {
    if let Some(percent) = text.strip_suffix('%') {
        return Ok(json!({ "percent": self::percent(percent)? }));
    }
    match text.parse::<u32>() {
        Ok(count @ 1..) => Ok(json!({ "count": count })),
        Ok(0) | Err(_) => {
            Err(format!("'{text}' is not a size; write a number of devices or a percentage such as 50%"))
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.trim_end_matches('%').parse().map_err(|_| format!("'{text}' is not a percentage"))?;
    if number > 0.0 && number <= 100.0 {
        Ok(number)
    } else {
        Err(format!("{text} % is not above 0 and up to 100"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages() {
        assert_eq!(
            stage("canary=1,bake=1d,quorum=50").unwrap(),
            json!({"name": "canary", "size": {"count": 1}, "quorum_percent": 50.0, "bake_s": 86400, "deadline_s": 86400})
        );
        assert_eq!(stage("all=100%").unwrap()["size"], json!({"percent": 100.0}));
        for wrong in [
            "",
            "canary",
            "=1",
            "canary=0",
            "canary=200%",
            "canary=x",
            "canary=1,bake",
            "canary=1,colour=red",
        ] {
            assert!(stage(wrong).is_err(), "{wrong}");
        }
    }
}
